"""Copies bytes both ways between two sockets until both are done, or nothing has moved for too long."""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

from runner.inside.errors import EgressDeniedError

IDLE_SECONDS = 300.0
_BUFFER_BYTES = 256 * 1024
_LOOK_SECONDS = 5.0
_DRAIN_SECONDS = 1.0
_DRAIN_BYTES = 256 * 1024


def _unlimited(_count: int) -> None:
    """As much as there is."""


class Flow:
    """Two directions that share one idea of being idle; counts what went through."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        *,
        idle_seconds: float,
        may_send: Callable[[int], None] = _unlimited,
        may_receive: Callable[[int], None] = _unlimited,
    ) -> None:
        """`may_send` and `may_receive` are told of bytes before they go on; an EgressDeniedError ends the flow."""
        self._client = client
        self._server = server
        self._idle_seconds = idle_seconds
        self._may_send = may_send
        self._may_receive = may_receive
        self._began = self._moved_at = time.monotonic()
        self.refused: EgressDeniedError | None = None
        self.sent = 0
        self.received = 0
        for sock in (client, server):
            sock.settimeout(idle_seconds)

    @property
    def milliseconds(self) -> int:
        return int(1000 * (time.monotonic() - self._began))

    def send(self, data: bytes) -> None:
        """Pass on what was read from the client already. Raises OSError."""
        self._server.sendall(data)
        self.sent += len(data)
        self._moved_at = time.monotonic()

    def answer(self, data: bytes) -> None:
        """Pass on what was read from the server already. Raises OSError."""
        self._client.sendall(data)
        self.received += len(data)
        self._moved_at = time.monotonic()

    def abort(self) -> None:
        """Nothing more goes through; whoever waits wakes up."""
        for sock in (self._client, self._server):
            _shut(sock, socket.SHUT_RDWR)

    def both_ways(self) -> None:
        upward = background(self.upward)
        self.downward()
        upward.join()

    def upward(self) -> None:
        for count in self._copy(self._client, self._server, may=self._may_send):
            self.sent += count

    def downward(self) -> None:
        for count in self._copy(self._server, self._client, may=self._may_receive):
            self.received += count

    def _copy(
        self, source: socket.socket, target: socket.socket, *, may: Callable[[int], None]
    ) -> Iterator[int]:
        view = memoryview(bytearray(_BUFFER_BYTES))
        poller = select.poll()
        poller.register(source, select.POLLIN)
        try:
            while self._wait(poller):
                count = source.recv_into(view)
                if not count:
                    _shut(target, socket.SHUT_WR)
                    return
                may(count)
                target.sendall(view[:count])
                self._moved_at = time.monotonic()
                yield count
        except OSError:
            pass
        except EgressDeniedError as exc:
            self.refused = exc
        self.abort()

    def _wait(self, poller: select.poll) -> bool:
        """True when there is something to read, False when nothing has moved in either direction."""
        look = min(_LOOK_SECONDS, self._idle_seconds)
        while not poller.poll(1000 * look):
            if time.monotonic() - self._moved_at >= self._idle_seconds:
                return False
        return True


def background(work: Callable[[], None]) -> threading.Thread:
    """Start a thread. Raises OSError when the container has none left, as a read or a dial might."""
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError as exc:
        raise BlockingIOError("no thread is left") from exc
    return thread


def farewell(sock: socket.socket, data: bytes) -> None:
    """Send the last words and let them arrive: an unread request would turn the close into a reset."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    with contextlib.suppress(OSError):
        sock.settimeout(_DRAIN_SECONDS)
        sock.sendall(data)
        if isinstance(sock, ssl.SSLSocket):
            _end_tls(sock)
        sock.shutdown(socket.SHUT_WR)
        left = _DRAIN_BYTES
        while left > 0 and time.monotonic() < deadline and (rest := sock.recv(left)):
            left -= len(rest)


def _end_tls(sock: ssl.SSLSocket) -> None:
    """Say that no more comes; what the other side still sends is nobody's."""
    sock.settimeout(0)
    with contextlib.suppress(OSError, ValueError):
        sock.unwrap()
    sock.settimeout(_DRAIN_SECONDS)


def prompt(sock: socket.socket) -> None:
    """Small pieces go at once, where there is a choice."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _shut(sock: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(how)
