"""The port to what an adapter must remember across restarts and replicas: tokens, cursors."""

from typing import Protocol


class Notes(Protocol):
    """Named texts, kept encrypted. Each adapter has names of its own.

    Errors are the store's, and pass through an adapter as they are.
    """

    async def get(self, name: str) -> str | None: ...

    async def put(self, name: str, value: str) -> None:
        """Set it, whatever it was."""

    async def swap(self, name: str, old: str | None, new: str | None) -> bool:
        """Set it to `new` (None removes it) only if it is `old` (None: is not there); False if it is not."""

    async def names(self, prefix: str) -> list[str]:
        """Those that begin so, sorted."""
