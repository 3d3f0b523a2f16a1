"""A connection to a server for one request at a time, whose troubles are never taken for the client's."""

import select
import socket
import time
from collections.abc import Iterator

from policies.egress import Allow
from runner.inside.errors import BodyError, UpstreamError
from runner.inside.reader import READ_BYTES, Reader
from runner.inside.replyhead import Answers, Reply
from runner.inside.splice import prompt

_GONE = "it ended the connection"


class Link:
    """Methods raise UpstreamError."""

    def __init__(
        self, sock: socket.socket, *, allow: Allow, address: str, idle_seconds: float
    ) -> None:
        self.allow = allow
        self.address = address
        self.requests = 0
        self.sent = 0
        self.received = 0
        self.trouble = ""
        self._sock = sock
        self._began = time.monotonic()
        self._answers = Answers(sock, idle_seconds=idle_seconds)
        prompt(sock)
        sock.settimeout(idle_seconds)

    @property
    def milliseconds(self) -> int:
        return int(1000 * (time.monotonic() - self._began))

    @property
    def stale(self) -> bool:
        """True if it cannot take another request: the server has ended it, or speaks unasked."""
        try:
            return self._answers.spoken()
        except OSError:
            return True

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as exc:
            raise UpstreamError(f"{_GONE}: {exc}", silent=True) from exc
        self.sent += len(data)

    def answers_before(self, client: Reader) -> bool:
        """Wait for either side: True if the server speaks, which comes first, False if the client does."""
        poller = select.poll()
        poller.register(client.sock, select.POLLIN)
        poller.register(self._sock, select.POLLIN)
        while found := poller.poll(1000 * client.idle_seconds):
            try:
                if self._answers.spoken():
                    return True
            except OSError as exc:
                raise UpstreamError(f"{_GONE}: {exc}", silent=True) from exc
            if any(fd == client.sock.fileno() for fd, _ in found):
                return False
        raise TimeoutError("neither side said anything for too long")

    def reply(self, method: str) -> Reply:
        return self._answers.reply(method)

    @property
    def has_data(self) -> bool:
        return self._answers.has_data

    def content(self, reply: Reply) -> Iterator[bytes]:
        """The body's data."""
        try:
            if reply.framing == "end":
                yield from self._rest()
                return
            body = self._answers.content(reply)
            while data := body.read():
                self.received += len(data)
                yield data
        except BodyError as exc:
            raise UpstreamError(str(exc)) from exc

    def _rest(self) -> Iterator[bytes]:
        data, self._answers.buffer = self._answers.buffer, b""
        while data or (data := self._recv()):
            self.received += len(data)
            yield data
            data = b""

    def _recv(self) -> bytes:
        try:
            return self._sock.recv(READ_BYTES)
        except OSError as exc:
            raise UpstreamError(f"{_GONE}: {exc}") from exc

    def close(self) -> None:
        self._sock.close()
