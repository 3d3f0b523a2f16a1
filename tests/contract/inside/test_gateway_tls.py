import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.contract.inside.run import (
    ALERT,
    ALLOWED,
    OTHER,
    PUBLIC,
    Origin,
    Run,
    echo,
    origin,
    policy,
    read_all,
    rule,
    run_for,
    running,
)
from tests.support.hellos import client_hello, in_records, with_extension

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])


def test_an_allowed_name_is_passed_through(echoing: tuple[Run, Origin]) -> None:
    run, server = echoing
    hello = client_hello(ALLOWED)
    with run.connect(ALLOWED, 443) as sock:
        sock.sendall(hello + b"more")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == hello + b"more"
    size = len(hello) + 4
    assert run.decision("allow")["address"] == PUBLIC
    run.gateway.wait_line("closed", host=ALLOWED, port=443, sent=size, received=size)
    assert server.got == hello + b"more"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hello_in_small_segments_and_records_is_understood(
    echoing: tuple[Run, Origin], size: int
) -> None:
    run, _ = echoing
    hello = in_records(client_hello(ALLOWED), size)
    with run.connect(ALLOWED, 443) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(hello)):
            sock.sendall(hello[at : at + 1])
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == hello


@pytest.mark.parametrize(
    ("host", "first", "reason"),
    [
        (ALLOWED, client_hello(OTHER), "another host"),
        (ALLOWED, client_hello(None), "names no server"),
        (ALLOWED, with_extension(client_hello(ALLOWED), 0xFE0D), "encrypted"),
        ("metadata.example.com", client_hello("metadata.example.com"), "169.254.169.254"),
        ("unresolvable.example.com", client_hello("unresolvable.example.com"), "not resolve"),
    ],
)
def test_anything_else_is_denied_with_an_alert(
    echoing: tuple[Run, Origin], host: str, first: bytes, reason: str
) -> None:
    run, server = echoing
    with run.connect(host, 443) as sock:
        sock.sendall(first)
        assert read_all(sock) == ALERT
    assert reason in run.decision("deny")["reason"]
    assert server.connections == 0


def test_a_connection_that_says_nothing_is_ended(echoing: tuple[Run, Origin]) -> None:
    run, _ = echoing
    with run.connect(ALLOWED, 443) as sock:
        assert read_all(sock) == b""
    assert "too long" in run.decision("deny")["reason"]


def test_a_host_that_is_down_closes_the_connection(echoing: tuple[Run, Origin]) -> None:
    run, _ = echoing
    with run.connect("down.example.com", 443) as sock:
        sock.sendall(client_hello("down.example.com"))
        with contextlib.suppress(ConnectionResetError):
            assert read_all(sock) == b""
    run.gateway.wait_line("closed", host="down.example.com", sent=0, received=0)


def test_the_end_of_one_direction_leaves_the_other_open(tmp_path: Path) -> None:
    def late(server: Origin, conn: socket.socket) -> None:
        while data := conn.recv(65536):
            server.got += data
        conn.sendall(b"after your end")

    hello = client_hello(ALLOWED)
    with (
        origin(late) as server,
        run_for(tmp_path, server, mode="splice") as run,
        run.connect(ALLOWED, 443) as sock,
    ):
        sock.sendall(hello)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"after your end"


def test_much_data_goes_through_fast(tmp_path: Path) -> None:
    size = 256 * 1024 * 1024

    def pour(_server: Origin, conn: socket.socket) -> None:
        conn.recv(65536)
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            conn.sendall(block)

    with origin(pour) as server, run_for(tmp_path, server, mode="splice") as run:
        began = time.monotonic()
        with run.connect(ALLOWED, 443) as sock:
            sock.sendall(client_hello(ALLOWED))
            buffer = bytearray(1 << 20)
            got = 0
            while count := sock.recv_into(buffer):
                got += count
        assert got == size
        # Several hundred MB/s on an idle machine; the limit only tells a copy loop gone wrong.
        assert size / (time.monotonic() - began) > 30e6
        run.gateway.wait_line("closed", received=size)


def test_an_idle_connection_is_ended(tmp_path: Path) -> None:
    hello = client_hello(ALLOWED)
    with (
        origin(echo) as server,
        running(
            tmp_path,
            rules=policy(rule(ALLOWED, mode="splice")),
            names={ALLOWED: [PUBLIC]},
            addresses={PUBLIC: server.port},
            args=("--idle-seconds=0.5",),
        ) as run,
        run.connect(ALLOWED, 443) as sock,
    ):
        sock.sendall(hello)
        assert read_all(sock) == hello
        run.gateway.wait_line("closed", host=ALLOWED)


def test_more_connections_than_places_wait_their_turn(echoing: tuple[Run, Origin]) -> None:
    run, _ = echoing
    hello = client_hello(ALLOWED)
    socks = [run.connect(ALLOWED, 443) for _ in range(80)]
    for sock in socks:
        sock.sendall(hello)
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
    assert {read_all(sock) for sock in socks} == {hello}
    for sock in socks:
        sock.close()
