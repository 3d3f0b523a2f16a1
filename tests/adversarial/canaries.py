"""Servers on the host that say what got out, whatever the attacker says: HTTP with and without TLS, and DNS."""

import contextlib
import hashlib
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runner.inside.incoming import Incoming
from tests.contract.inside.origins import Secured

SECONDS: Final = 10.0
PREAMBLE: Final = b"dialled "
_A: Final = 1
Answer = bytes | Callable[["Hit"], bytes]


@dataclass(frozen=True, slots=True)
class Secret:
    """Inside only its hash is known: who finds it can prove it, and who looks for it cannot leak it."""

    value: str = field(default_factory=lambda: f"canary-{secrets.token_hex(16)}", repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.value.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A request that arrived."""

    address: str
    """Which one was dialled; empty where nobody said it."""
    head: bytes
    body: bytes


class HttpCanary:
    """Remembers connections and requests. One that begins with `dialled ADDRESS PORT` says where it was meant to go."""

    def __init__(self, host: str, *, secured: Secured | None, answer: Answer) -> None:
        self._listener = socket.create_server((host, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._secured = secured
        self._answer = answer
        self.dialled: list[str] = []
        self.hits: list[Hit] = []
        self.raw = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            conn.settimeout(SECONDS)
            address, port = self._preamble(conn)
            self.dialled.append(address)
            if port != "443" or self._secured is None:
                self._talk(conn, address)
                return
            host = Incoming(conn, idle_seconds=SECONDS).hello().host
            with self._secured.accept(conn, host) as tls:
                self._talk(tls, address)

    def _preamble(self, conn: socket.socket) -> tuple[str, str]:
        first = conn.recv(len(PREAMBLE), socket.MSG_PEEK | socket.MSG_WAITALL)
        if first != PREAMBLE:
            return "", ""
        line = b""
        while not line.endswith(b"\n"):
            line += conn.recv(1)
        _, address, port = line.decode().split()
        return address, port

    def _talk(self, conn: socket.socket, address: str) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = conn.recv(65536)
                if not more:
                    return
                self.raw += len(more)
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            while (length := _body_length(head, data)) < 0:
                more = conn.recv(65536)
                if not more:
                    return
                data += more
            hit = Hit(address=address, head=head, body=data[:length])
            data = data[length:]
            self.hits.append(hit)
            conn.sendall(self._answer if isinstance(self._answer, bytes) else self._answer(hit))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


def _body_length(head: bytes, data: bytes) -> int:
    """Bytes of the body, with its chunks; -1 while it is not whole."""
    lines = head.lower().split(b"\r\n")
    if b"transfer-encoding: chunked" in lines:
        end = data.find(b"0\r\n\r\n")
        return end + 5 if end >= 0 else -1
    lengths = [line.split(b":")[1] for line in lines if line.startswith(b"content-length:")]
    length = sum(int(found) for found in lengths)
    return length if len(data) >= length else -1


OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def http_canary(
    host: str = "127.0.0.1", *, secured: Secured | None = None, answer: Answer = OK
) -> Iterator[HttpCanary]:
    canary = HttpCanary(host, secured=secured, answer=answer)
    try:
        yield canary
    finally:
        canary.close()


Addresses = Mapping[str, Sequence[Sequence[str]]]
"""For each name what it answers to the first question, to the second and so on; the last one stays."""


class DnsCanary:
    """Answers questions for IPv4 addresses, and remembers every name that was asked for."""

    def __init__(self, host: str, addresses: Addresses) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((host, 0))
        self.port: int = self._sock.getsockname()[1]
        self._addresses = addresses
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, peer = self._sock.recvfrom(4096)
            if not query:
                return
            self._sock.sendto(self._reply(query), peer)

    def _reply(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        name = ".".join(labels)
        turns = self._addresses.get(name, [[]])
        found = turns[min(self.asked.count(name), len(turns) - 1)]
        self.asked.append(name)
        header = query[:2] + struct.pack(">5H", 0x8180, 1, len(found), 0, 0)
        records = [
            b"\xc0\x0c" + struct.pack(">2HIH", _A, 1, 0, 4) + socket.inet_aton(address)
            for address in found
        ]
        return header + query[12 : at + 5] + b"".join(records)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"", self._sock.getsockname())
        self._thread.join()
        self._sock.close()


@contextmanager
def dns_canary(addresses: Addresses, host: str = "127.0.0.1") -> Iterator[DnsCanary]:
    canary = DnsCanary(host, addresses)
    try:
        yield canary
    finally:
        canary.close()


def certificates(where: Path) -> Secured:
    """An authority that the gateway trusts, for the canary with TLS."""
    return Secured(where)


def insecure() -> ssl.SSLContext:
    """For an attacker who trusts everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
