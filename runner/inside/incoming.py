"""Reads from a client's socket what has to be understood before anything is forwarded."""

import re
import socket
import time
from collections.abc import Iterator

from runner.inside.errors import BodyError, HeadError, HelloError
from runner.inside.httphead import Head, parse_head, split_head
from runner.inside.sni import Hello, read_hello

HELLO_SECONDS = 5.0
HEAD_SECONDS = 10.0
_READ_BYTES = 64 * 1024
_LEAST_SECONDS = 0.001
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_LINE_BYTES = 10


class Incoming:
    """A client's socket with the bytes that were read ahead. Reads raise OSError (a time-out is one)."""

    def __init__(self, sock: socket.socket, *, idle_seconds: float) -> None:
        self.sock = sock
        self._idle_seconds = idle_seconds
        self._buffer = b""

    def hello(self, *, seconds: float = HELLO_SECONDS) -> tuple[Hello, bytes]:
        """The ClientHello, and all bytes read so far. Raises HelloError."""
        deadline = time.monotonic() + seconds
        while (found := read_hello(self._buffer)) is None:
            if not self._more(deadline):
                raise HelloError("the connection ended before a ClientHello")
        self.sock.settimeout(self._idle_seconds)
        return found, self._buffer

    def head(self, *, seconds: float = HEAD_SECONDS) -> Head | None:
        """The request head; None if the client said nothing and closed. Raises HeadError."""
        deadline = time.monotonic() + seconds
        while (found := split_head(self._buffer)) is None:
            if not self._more(deadline):
                if not self._buffer:
                    return None
                raise HeadError(400, "the connection ended within the request head")
        raw, self._buffer = found
        self.sock.settimeout(self._idle_seconds)
        return parse_head(raw)

    def _more(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        try:
            self.sock.settimeout(max(left, _LEAST_SECONDS))
            data = self.sock.recv(_READ_BYTES)
        except TimeoutError:
            data, left = b"", 0
        if left <= 0:
            raise TimeoutError("the first bytes took too long")
        self._buffer += data
        return bool(data)

    def body(self, length: int | None) -> Iterator[bytes]:
        """The body's data, exactly; what follows it is never read. Raises BodyError."""
        if length is not None:
            yield from self._exactly(length)
            return
        while size := self._chunk_size():
            yield from self._exactly(size)
            self._crlf()
        self._crlf()

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data = self._take(min(count, _READ_BYTES))
            count -= len(data)
            yield data

    def _take(self, most: int) -> bytes:
        if not self._buffer:
            self._buffer = self.sock.recv(most)
            if not self._buffer:
                raise BodyError("the connection ended within the body")
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        return data

    def _chunk_size(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            line += self._take(1)
            if len(line) > _SIZE_LINE_BYTES:
                break
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BodyError("a chunk's size is malformed")
        return int(match[1], 16)

    def _crlf(self) -> None:
        if self._take(1) + self._take(1) != b"\r\n":
            raise BodyError("a chunk does not end where it should")
