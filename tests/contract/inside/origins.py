"""HTTP servers for the gateway to talk to, in the clear and with TLS of their own authority."""

import datetime as dt
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.inside.authority import Authority
from runner.inside.tls import Disguise
from tests.contract.inside.run import ALLOWED, PUBLIC, Origin, Run, more, origin, policy, running

Talk = Callable[[Origin, socket.socket], None]


def requests(conn: socket.socket) -> Iterator[bytes]:
    """Each head, and the body if it has a length."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            if not (begun := conn.recv(65536)):
                return
            data += begun
        head, _, data = data.partition(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        for length in lengths:
            while len(data) < length:
                data += more(conn)
            head, data = head + b"\r\n\r\n" + data[:length], data[length:]
        yield head


def saying(*replies: bytes) -> Talk:
    """Answers each request with the next of these, and the last one for ever."""

    def talk(server: Origin, conn: socket.socket) -> None:
        for number, found in enumerate(requests(conn)):
            server.got += found + b"\n--\n"
            conn.sendall(replies[min(number, len(replies) - 1)])

    return talk


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Secured:
    """Certificates of an authority that the gateway trusts, as if it were the world's."""

    def __init__(self, where: Path) -> None:
        authority = Authority(seconds=3600, now=dt.datetime.now(dt.UTC))
        self._disguise = Disguise(authority.leaf)
        self.accept = self._disguise.accept
        self.bundle = where / "world.pem"
        self.bundle.write_text(authority.certificate)

    def talk(self, talk: Talk, *, name: str = ALLOWED) -> Talk:
        def secured(server: Origin, conn: socket.socket) -> None:
            with self._disguise.accept(conn, name) as tls:
                tls.settimeout(10)
                talk(server, tls)

        return secured


@contextmanager
def inspected(
    where: Path,
    talk: Talk,
    *hosts: object,
    name: str = ALLOWED,
    args: tuple[str, ...] = (),
) -> Iterator[tuple[Run, Origin]]:
    """A run whose TLS is inspected, in front of a server that proves to be `name`."""
    secured = Secured(where)
    rules = policy(*(hosts or (ALLOWED,)))  # type: ignore[arg-type]
    with (
        origin(secured.talk(talk, name=name)) as server,
        running(
            where,
            rules=rules,
            names={ALLOWED: [PUBLIC]},
            addresses={PUBLIC: server.port},
            args=args,
            env={"SSL_CERT_FILE": str(secured.bundle)},
        ) as run,
    ):
        yield run, server


def trusting(where: Path) -> ssl.SSLContext:
    """What a program in the agent's container trusts."""
    context = ssl.create_default_context(cafile=str(where / "trust/bundle.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@contextmanager
def secure(run: Run, where: Path, host: str, *, port: int = 443) -> Iterator[ssl.SSLSocket]:
    with (
        run.connect(host, port) as sock,
        trusting(where).wrap_socket(sock, server_hostname=host) as tls,
    ):
        yield tls


def reply(sock: socket.socket) -> bytes:
    """One answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += more(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    [length] = [
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    while len(body) < length:
        body += more(sock)
    return head + b"\r\n\r\n" + body
