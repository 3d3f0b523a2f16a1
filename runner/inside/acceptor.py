"""Owns the agent's network namespace: answers DNS, accepts connections, hands each to the gateway, and forgets it.

The kernel gives it no other interface than loopback, so a connection that it does not take leads nowhere.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.inside.containment import breaches, look
from runner.inside.dns import Names, answer
from runner.inside.wire import FATAL_STATUS, Transcript

_DNS_BYTES = 4096
_TCP_LENGTH = struct.Struct(">H")
_TCP_CLIENTS = 16
_TCP_SECONDS = 5.0
_HAND_SECONDS = 30
_LOOK_SECONDS = 0.05
_BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A port to listen on, and the port that the gateway is told; they differ in tests only."""

    listen: int
    tell: int


def read_door(text: str) -> Door:
    """From `443`, or `18443=443`."""
    listen, _, tell = text.partition("=")
    return Door(listen=int(listen), tell=int(tell or listen))


class Acceptor:
    def __init__(
        self, *, gateway: Path, transcript: Transcript, names: Names, stop: threading.Event
    ) -> None:
        self._gateway = gateway
        self._transcript = transcript
        self._names = names
        self._stop = stop
        self._tcp_slots = threading.BoundedSemaphore(_TCP_CLIENTS)

    def serve_datagrams(self, sock: socket.socket) -> None:
        while True:
            with contextlib.suppress(OSError):
                query, peer = sock.recvfrom(_DNS_BYTES)
                reply = answer(query, self._names)
                if reply is not None:
                    sock.sendto(reply, peer)

    def serve_streams(self, listener: socket.socket) -> None:
        """DNS over TCP; who comes when all places are taken is turned away."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                continue
            if not self._tcp_slots.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=self._serve_stream, args=(client,), daemon=True).start()
            except RuntimeError:
                client.close()
                self._tcp_slots.release()

    def _serve_stream(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                client.settimeout(_TCP_SECONDS)
                while (query := _framed(client)) is not None:
                    reply = answer(query, self._names)
                    if reply is None:
                        return
                    client.sendall(_TCP_LENGTH.pack(len(reply)) + reply)
        finally:
            self._tcp_slots.release()

    def serve_door(self, listener: socket.socket, port: int) -> None:
        """Hand on one connection after the other; a gateway that is busy, or not there yet, makes callers wait."""
        while not self._gateway.exists():
            self._stop.wait(_LOOK_SECONDS)
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                continue
            with client:
                self._hand_on(client, port)

    def _hand_on(self, client: socket.socket, port: int) -> None:
        try:
            host = self._names.name(client.getsockname()[0])
            message = json.dumps({"host": host, "port": port}).encode()
            with socket.socket(socket.AF_UNIX) as gateway:
                # A time limit of the kernel's: `settimeout` would turn a full backlog into an error.
                limit = struct.pack("ll", _HAND_SECONDS, 0)
                gateway.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                gateway.connect(str(self._gateway))
                socket.send_fds(gateway, [message], [client.fileno()])
        except OSError as exc:
            self._transcript.write("noise", text=f"a connection was dropped: {exc}")


def _framed(client: socket.socket) -> bytes | None:
    size = _exactly(client, _TCP_LENGTH.size)
    return _exactly(client, _TCP_LENGTH.unpack(size)[0]) if size else None


def _exactly(client: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            return None
        data += part
    return data


def listener(host: str, port: int) -> socket.socket:
    sock = socket.create_server((host, port), backlog=_BACKLOG)
    sock.setblocking(True)
    return sock


def datagrams(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, port))
    return sock


def _start(acceptor: Acceptor, *, dns_port: int, doors: Sequence[Door]) -> dict[str, object]:
    """Listen everywhere, then serve; returns the ports that were taken."""
    udp = datagrams("127.0.0.1", dns_port)
    dns_port = udp.getsockname()[1]
    tcp = listener("127.0.0.1", dns_port)
    open_doors = [(listener("0.0.0.0", door.listen), door.tell) for door in doors]  # noqa: S104 - all of 127/8, nothing else exists
    work = [
        threading.Thread(target=acceptor.serve_datagrams, args=(udp,), daemon=True),
        threading.Thread(target=acceptor.serve_streams, args=(tcp,), daemon=True),
        *(
            threading.Thread(target=acceptor.serve_door, args=door, daemon=True)
            for door in open_doors
        ),
    ]
    for thread in work:
        thread.start()
    ports = {str(tell): sock.getsockname()[1] for sock, tell in open_doors}
    return {"dns": dns_port, "ports": ports}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="acceptor")
    parser.add_argument("doors", nargs="+", type=read_door, metavar="PORT")
    parser.add_argument("--gateway", type=Path, default=Path("/run/egress/gw.sock"))
    parser.add_argument("--dns-port", type=int, default=53)
    parser.add_argument("--unchecked", action="store_true", help="for tests outside a container")
    args = parser.parse_args(argv)
    transcript = Transcript(sys.stdout.buffer)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    found = look()
    wrong = breaches(found)
    if wrong and not args.unchecked:
        transcript.fatal("; ".join(wrong))
        sys.exit(FATAL_STATUS)
    acceptor = Acceptor(gateway=args.gateway, transcript=transcript, names=Names(), stop=stop)
    try:
        taken = _start(acceptor, dns_port=args.dns_port, doors=args.doors)
    except OSError as exc:
        transcript.fatal(f"cannot listen: {exc}")
        sys.exit(FATAL_STATUS)
    transcript.write("ready", containment=found.as_fields(), **taken)
    stop.wait()
    os._exit(128 + signal.SIGTERM)
