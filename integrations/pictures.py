"""The port to where pictures are kept that come with a request."""

from typing import Protocol


class Pictures(Protocol):
    async def keep_picture(self, content: bytes) -> str:
        """Keep it, and give the name by which it can be had. Safe twice. Errors: OSError."""
