"""Acceptor and gateway as two programs, with servers on loopback behind them."""

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.inside.programs import Program, Record, program
from tests.support.ports import free_port

OTHER = "other.example.com"
ALERT = bytes.fromhex("15030300020231")
PUBLIC = "11.0.0.1"
"""An address that is global; it is never dialled."""
ALLOWED = "allowed.example.com"


class Origin:
    """A server on loopback that runs one function for each connection, and remembers what it read."""

    def __init__(self, talk: Callable[["Origin", socket.socket], None]) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.got = b""
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn: socket.socket) -> None:
        with conn:
            try:
                self._talk(self, conn)
            except OSError:
                return

    def close(self) -> None:
        # A thread left in accept would take the connections of whoever gets the descriptor's number next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@contextmanager
def origin(talk: Callable[[Origin, socket.socket], None]) -> Iterator[Origin]:
    server = Origin(talk)
    try:
        yield server
    finally:
        server.close()


def question(name: str, *, kind: int = 1, ident: int = 7) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return (
        struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)
    )


def lookup(name: str, *, port: int) -> str:
    """The address that the acceptor's DNS gives; empty if it gives none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(question(name), ("127.0.0.1", port))
        reply, _ = sock.recvfrom(4096)
    return socket.inet_ntoa(reply[-4:]) if struct.unpack(">H", reply[6:8])[0] else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    acceptor: Program
    gateway: Program
    dns: int
    ports: Mapping[int, int]

    def connect(self, host: str, port: int) -> socket.socket:
        """As a program in the agent's container does: look up, then dial."""
        return self.connect_to(lookup(host, port=self.dns), port)

    def connect_to(self, address: str, port: int) -> socket.socket:
        sock = socket.create_connection((address, self.ports[port]), timeout=10)
        sock.settimeout(10)
        return sock

    def decision(self, verdict: str) -> Record:
        return self.gateway.wait_line("decision", verdict=verdict)


def rule(host: str, **fields: Any) -> Record:
    return {"host": host, **fields}


def policy(*hosts: str | Record, private: tuple[str, ...] = (), **fields: Any) -> Record:
    """Hosts by their names, or whole rules."""
    rules = [rule(h, private=h in private) if isinstance(h, str) else h for h in hosts]
    return {"do": "policy", "egress": rules, **fields}


@contextmanager
def running(
    where: Path,
    *,
    rules: Record,
    names: Mapping[str, list[str]] | None = None,
    addresses: Mapping[str, int] | None = None,
    args: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    path = where / "gw.sock"
    state, trust = where / "quarantine", where / "trust"
    state.mkdir()
    trust.mkdir()
    world = json.dumps({"names": names or {}, "addresses": addresses or {}})
    under_test = "tests.contract.inside.gateway_under_test"
    gateway_args = (
        world,
        f"--acceptor-uid={os.getuid()}",
        f"--socket={path}",
        f"--state={state}",
        f"--trust={trust}",
    )
    acceptor_args = (
        "--unchecked",
        f"--dns-port={free_port()}",
        f"--gateway={path}",
        "0=80",
        "0=443",
        "0=8000",
    )
    with (
        program(under_test, *gateway_args, *args, env=env) as gateway,
        program("runner.inside.acceptor", *acceptor_args) as acceptor,
    ):
        gateway.send("policy", rules)
        gateway.wait_line("ready")
        ready = acceptor.wait_line("ready")
        ports = {int(tell): listen for tell, listen in ready["ports"].items()}
        yield Run(acceptor=acceptor, gateway=gateway, dns=ready["dns"], ports=ports)


def more(sock: socket.socket) -> bytes:
    """What comes next; an error where nothing can come any more, for who waits for it would wait for ever."""
    if data := sock.recv(65536):
        return data
    raise ConnectionError("it ended in the middle")


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def echo(server: Origin, conn: socket.socket) -> None:
    while data := conn.recv(65536):
        server.got += data
        conn.sendall(data)


def answer_and_close(server: Origin, conn: socket.socket) -> None:
    """An HTTP server that reads until a request seems complete."""
    conn.settimeout(0.5)
    try:
        while data := conn.recv(65536):
            server.got += data
            if server.got.endswith(b"END") or b"GET" in server.got or b"0\r\n\r\n" in server.got:
                break
    except TimeoutError:
        pass
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")


def run_for(
    where: Path, server: Origin, *, mode: str = "inspect", **fields: Any
) -> AbstractContextManager[Run]:
    hosts = (ALLOWED, "unresolvable.example.com", "metadata.example.com", "down.example.com")
    return running(
        where,
        rules=policy(*(rule(host, mode=mode, **fields) for host in hosts)),
        names={
            ALLOWED: [PUBLIC],
            OTHER: [PUBLIC],
            "metadata.example.com": [PUBLIC, "169.254.169.254"],
            "down.example.com": ["11.0.0.2"],
        },
        addresses={PUBLIC: server.port, "169.254.169.254": server.port},
    )


def request(run: Run, raw: bytes, *, host: str = ALLOWED) -> bytes:
    with run.connect(host, 80) as sock:
        sock.sendall(raw)
        return read_all(sock)


def get(host: str, *more: str, path: str = "/", stays: bool = False) -> bytes:
    ends = () if stays else ("Connection: close",)
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *more, *ends, "", ""]).encode()
