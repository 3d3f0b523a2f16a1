"""Reads from a client's socket what has to be understood before anything is forwarded."""

import socket
import time
from collections.abc import Iterator

from runner.inside.errors import HeadError, HelloError
from runner.inside.httphead import Head, parse_head, split_head
from runner.inside.reader import Body, Reader
from runner.inside.sni import HELLO_BYTES, Hello, read_hello

HELLO_SECONDS = 5.0
HEAD_SECONDS = 10.0
KEEP_SECONDS = 60.0
"""Between two requests: an idle client holds a place that others wait for."""
_LEAST_SECONDS = 0.001
_TLS = b"\x16"


class Incoming(Reader):
    """Reads raise OSError (a time-out is one)."""

    def speaks_tls(self, *, seconds: float = HELLO_SECONDS) -> bool:
        """By the first byte, which stays where it is. Raises TimeoutError."""
        return self._peek(1, time.monotonic() + seconds).startswith(_TLS)

    def hello(self, *, seconds: float = HELLO_SECONDS) -> Hello:
        """The ClientHello, which stays where it is. Raises HelloError."""
        deadline = time.monotonic() + seconds
        try:
            data = b""
            while (found := read_hello(data)) is None:
                more = self._peek(len(data) + 1, deadline)
                if len(more) <= len(data):
                    raise HelloError("the connection ended before a ClientHello")
                data = more
        finally:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self.sock.settimeout(self.idle_seconds)
        return found

    def _peek(self, least: int, deadline: float) -> bytes:
        """What is there once it is at least so much, or the end has come."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
        self.sock.settimeout(max(deadline - time.monotonic(), _LEAST_SECONDS))
        try:
            return self.sock.recv(HELLO_BYTES, socket.MSG_PEEK)
        except TimeoutError:
            raise TimeoutError("the first bytes took too long") from None

    def head(self, *, seconds: float = HEAD_SECONDS) -> Head | None:
        """The request head; None if the client said nothing and closed. Raises HeadError."""
        deadline = time.monotonic() + seconds
        while (found := split_head(self.buffer)) is None:
            if not self.more(deadline):
                if not self.buffer:
                    return None
                raise HeadError(400, "the connection ended within the request head")
        raw, self.buffer = found
        self.sock.settimeout(self.idle_seconds)
        return parse_head(raw)

    def next_head(self) -> Head | None:
        """As `head`, for a client that may take its time before it says anything more."""
        if not self.buffer:
            try:
                self.sock.settimeout(min(self.idle_seconds, KEEP_SECONDS))
                self.buffer = self.sock.recv(HELLO_BYTES)
            except TimeoutError:
                return None
        return self.head() if self.buffer else None

    def body(self, length: int | None) -> Iterator[bytes]:
        """The body's data, exactly; what follows it is never used. Raises BodyError."""
        body = Body(self, length)
        while data := body.read():
            yield data
