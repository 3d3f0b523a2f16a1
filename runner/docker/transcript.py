"""From the bytes of a container's log to lines. Pure."""

from collections.abc import Iterator
from typing import Final

from pydantic import ValidationError

from runner.errors import SandboxLostError
from runner.sandbox import Line

LINE_BYTES: Final = 1024 * 1024


class Lines:
    """Splits and checks. A transcript that breaks its own rules is not one that a run can go on with."""

    def __init__(self, *, name: str, limit: int = LINE_BYTES) -> None:
        self._name = name
        self._limit = limit
        self._rest = bytearray()
        self._read = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """Raises SandboxLostError at a line that is too long, is no line, or is out of turn."""
        self._rest += data
        *whole, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in whole:
            yield self._line(bytes(line))
        if len(self._rest) > self._limit:
            raise SandboxLostError(f"{self._name} wrote a line of more than {self._limit} bytes")

    def _line(self, text: bytes) -> Line:
        try:
            line = Line.model_validate_json(text)
        except ValidationError as exc:
            raise SandboxLostError(f"{self._name} wrote what is no line of a transcript") from exc
        if line.n != self._read + 1:
            raise SandboxLostError(f"{self._name} wrote line {line.n} after line {self._read}")
        self._read = line.n
        return line
