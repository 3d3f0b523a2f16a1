"""A socket with the bytes that were read ahead, and the body of an HTTP message in it."""

import re
import select
import socket
import ssl
import time

from runner.inside.errors import BodyError

READ_BYTES = 256 * 1024
_LITTLE_BYTES = 64 * 1024
_LEAST_SECONDS = 0.001
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_LINE_BYTES = 10
# What a server adds to a chunk's size ends here: the chunk goes on without it.
_LENIENT_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LENIENT_SIZE_LINE_BYTES = 1024
_TRAILER_BYTES = 16 * 1024


class Reader:
    """Reads raise OSError (a time-out is one)."""

    def __init__(self, sock: socket.socket, *, idle_seconds: float) -> None:
        self.sock = sock
        self.idle_seconds = idle_seconds
        self.buffer = b""

    @property
    def has_data(self) -> bool:
        """True if there is something to read without waiting."""
        return bool(self.buffer) or (
            isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0
        )

    def more(self, deadline: float) -> bool:
        """Read on; False at the end. Raises TimeoutError after the deadline."""
        left = deadline - time.monotonic()
        try:
            self.sock.settimeout(max(left, _LEAST_SECONDS))
            data = self.sock.recv(READ_BYTES)
        except TimeoutError:
            data, left = b"", 0
        if left <= 0:
            raise TimeoutError("the first bytes took too long")
        self.buffer += data
        return bool(data)

    def spoken(self) -> bool:
        """True if the other side has said something, or has ended; does not wait."""
        if self.has_data:
            return True
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        if not poller.poll(0):
            return False
        if not isinstance(self.sock, ssl.SSLSocket):
            return True
        # What came may be no data, but a message of the protocol below.
        self.sock.settimeout(0)
        try:
            self.buffer = self.sock.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        finally:
            self.sock.settimeout(self.idle_seconds)
        return True

    def take(self, most: int) -> bytes:
        """Some bytes. Raises BodyError at the end."""
        if not self.buffer:
            # Much at a time goes on as it is; little at a time is read ahead.
            data = self.sock.recv(min(most, READ_BYTES) if most > _LITTLE_BYTES else READ_BYTES)
            if not data:
                raise BodyError("the connection ended within the body")
            if len(data) <= most:
                return data
            self.buffer = data
        data, self.buffer = self.buffer[:most], self.buffer[most:]
        return data


class Body:
    """The data of one message, exactly; what follows it is never read."""

    def __init__(self, reader: Reader, length: int | None, *, lenient: bool = False) -> None:
        """`length` None: it comes in chunks. `lenient` takes what servers add to chunks, and drops it."""
        self._reader = reader
        self._chunked = length is None
        self._left = length or 0
        self._lenient = lenient
        self._begun = False
        self.done = length == 0

    def read(self) -> bytes:
        """Some data; empty at the end. Raises BodyError, OSError."""
        if self._chunked and not self.done and not self._left:
            self._next_chunk()
        if self.done:
            return b""
        data = self._reader.take(self._left)
        self._left -= len(data)
        if not self._left and not self._chunked:
            self.done = True
        return data

    def _next_chunk(self) -> None:
        if self._begun:
            self._crlf()
        self._begun = True
        self._left = self._chunk_size()
        if not self._left:
            if self._lenient:
                self._drop_trailers()
            else:
                self._crlf()
            self.done = True

    def _chunk_size(self) -> int:
        most = _LENIENT_SIZE_LINE_BYTES if self._lenient else _SIZE_LINE_BYTES
        grammar = _LENIENT_SIZE_LINE if self._lenient else _SIZE_LINE
        match = grammar.fullmatch(self._line(most))
        if match is None:
            raise BodyError("a chunk's size is malformed")
        return int(match[1], 16)

    def _line(self, most: int) -> bytes:
        reader = self._reader
        while (end := reader.buffer.find(b"\n", 0, most)) < 0 and len(reader.buffer) < most:
            # Exactly as much as is there: nothing waits for what may never come.
            data = reader.sock.recv(READ_BYTES)
            if not data:
                raise BodyError("the connection ended within the body")
            reader.buffer += data
        size = end + 1 if end >= 0 else most
        line, reader.buffer = reader.buffer[:size], reader.buffer[size:]
        return line

    def _crlf(self) -> None:
        if self._reader.take(1) + self._reader.take(1) != b"\r\n":
            raise BodyError("a chunk does not end where it should")

    def _drop_trailers(self) -> None:
        left = _TRAILER_BYTES
        while (line := self._line(left)) != b"\r\n":
            left -= len(line)
            if left <= 0 or not line.endswith(b"\r\n"):
                raise BodyError("the trailers are malformed")
