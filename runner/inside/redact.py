"""Takes a secret out of a stream of bytes, however it is cut, and keeps its length."""

from collections.abc import Sequence

_MARK = b"*"


class Redactor:
    """What could be the beginning of a form is held back until it is clear."""

    def __init__(self, forms: Sequence[bytes]) -> None:
        self._forms = sorted(forms, key=len, reverse=True)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can go on. Of the same length in the end, so that a Content-Length stays true."""
        data = self._held + data
        for form in self._forms:
            data = data.replace(form, _MARK * len(form))
        keep = max((_beginning(data, form) for form in self._forms), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """What was still held back."""
        rest, self._held = self._held, b""
        return rest


def _beginning(data: bytes, form: bytes) -> int:
    """The length of the longest end of `data` that a form begins with."""
    longest = min(len(form) - 1, len(data))
    return next((n for n in range(longest, 0, -1) if data.endswith(form[:n])), 0)
