"""Named upstreams that are no model: HTTP with a credential, and ports without one."""

import socket
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.inside.run import (
    PUBLIC,
    Origin,
    Run,
    echo,
    more,
    origin,
    policy,
    read_all,
    request,
    running,
)
from tests.contract.inside.test_gateway_models import CLIENT_SECRETS, SECRET, serve

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2"])

HOST = "issues.internal"
UPSTREAM = "issues.acme.test"
DATABASE = "db.acme.test"
PRIVATE = "10.0.0.1"
ISSUES: dict[str, Any] = {
    "kind": "http",
    "name": "issues",
    "upstream": f"http://{UPSTREAM}:8000/base",
    "private": True,
    "header": "private-token",
    "scheme": "",
    "user": "",
    "requests": [{"methods": ["GET"], "paths": ["/api/**"]}, {"methods": ["POST"], "paths": ["/api/new"]}],
    "secret": SECRET,
}  # fmt: skip
REPLICA: dict[str, Any] = {
    "kind": "tcp", "name": "replica", "host": DATABASE, "port": 8000, "private": True,
}  # fmt: skip


def run_with(
    where: Path, server: Origin, *connections: dict[str, Any], address: str = PRIVATE
) -> AbstractContextManager[Run]:
    return running(
        where,
        rules=policy(connections=list(connections)),
        names={UPSTREAM: [address], DATABASE: [address]},
        addresses={PRIVATE: server.port, PUBLIC: server.port},
    )


def ask(method: str = "GET", path: str = "/api/v1/issues?q=a", *more: str, host: str = HOST) -> bytes:  # fmt: skip
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *more, "", ""]).encode()


def talk_once(server: Origin, conn: socket.socket) -> None:
    while not server.got.endswith(b"\r\n\r\n"):
        server.got += more(conn)
    conn.sendall(
        b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\nauthentication-info: x\r\nalt-svc: h3\r\ncontent-length: 2\r\n\r\nok"
    )


def test_a_request_goes_on_with_our_credential_and_without_the_clients(tmp_path: Path) -> None:
    with origin(talk_once) as server, run_with(tmp_path, server, ISSUES) as run:
        reply = request(run, ask("GET", "/api/v1/issues?q=a", *CLIENT_SECRETS, "Accept: */*"), host=HOST)  # fmt: skip
        decision = run.decision("allow")
    assert server.got.split(b"\r\n")[:-2] == [
        b"GET /base/api/v1/issues?q=a HTTP/1.1",
        f"host: {UPSTREAM}:8000".encode(),
        b"accept-encoding: identity",
        f"private-token: {SECRET}".encode(),
        b"accept: */*",
        b"connection: close",
    ]
    assert reply == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    assert decision["rule"] == "connection:issues"


def test_basic_has_the_secret_for_its_password_and_hides_its_base64(tmp_path: Path) -> None:
    basic = ISSUES | {"header": "authorization", "user": "bot"}
    encoded = "Ym90OnNrLXJlYWwtY2FuYXJ5"
    talk = serve(f"x-echo: {encoded}", body=f"you sent Basic {encoded}".encode())
    post = ask("POST", "/api/new", "Content-Length: 2") + b"{}"
    with origin(talk) as server, run_with(tmp_path, server, basic) as run:
        reply = request(run, post, host=HOST)
    assert f"authorization: Basic {encoded}\r\n".encode() in server.got
    assert encoded.encode() not in reply
    assert b"x-echo: [redacted]\r\n" in reply


@pytest.mark.parametrize(
    "raw",
    [
        ask("POST"), ask("GET", "/admin"), ask("GET", "/api/../admin"), ask("GET", "/api/%2e%2e/admin"), ask("DELETE", "/api/new"),
        ask("GET", "/api/x", "Content-Encoding: gzip"), ask("GET", "//api/x"), ask(host="other.internal"),
        ask("GET", "/api/x", "X-HTTP-Method-Override: DELETE").replace(b"GET", b"PUT"),
    ],
)  # fmt: skip
def test_what_policy_does_not_name_is_refused_before_anything_is_dialled(
    tmp_path: Path, raw: bytes
) -> None:
    with origin(talk_once) as server, run_with(tmp_path, server, ISSUES) as run:
        reply = request(run, raw, host=HOST)
        assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
        assert run.decision("deny")["host"] == HOST
        assert server.connections == 0


def test_an_unknown_name_of_ours_is_refused(tmp_path: Path) -> None:
    with origin(talk_once) as server, run_with(tmp_path, server, ISSUES) as run:
        reply = request(run, ask(host="other.internal"), host="other.internal")
    assert reply.startswith(b"HTTP/1.1 403")
    assert b"no such connection" in reply


def test_a_port_is_passed_through_both_ways_without_a_word_of_ours(tmp_path: Path) -> None:
    with origin(echo) as server, run_with(tmp_path, server, REPLICA) as run:
        with run.connect("replica.internal", 8000) as sock:
            sock.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
            assert sock.recv(100) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b""
        decision = run.decision("allow")
        closed = run.gateway.wait_line("closed")
    assert server.got == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
    assert (decision["host"], decision["port"], decision["rule"]) == (
        DATABASE, 8000, "connection:replica",
    )  # fmt: skip
    assert (closed["sent"], closed["received"]) == (8, 8)


def test_another_port_or_name_leads_nowhere(tmp_path: Path) -> None:
    other = REPLICA | {"port": 5432}
    with origin(echo) as server, run_with(tmp_path, server, other) as run:
        with run.connect("replica.internal", 8000) as sock:
            assert sock.recv(100) == b""
        with run.connect("primary.internal", 8000) as sock:
            assert sock.recv(100) == b""
        assert server.connections == 0


@pytest.mark.parametrize("address", [PRIVATE, "169.254.169.254"])
def test_a_private_address_needs_a_word_in_the_policy(tmp_path: Path, address: str) -> None:
    public = REPLICA | {"private": False}
    with origin(echo) as server, run_with(tmp_path, server, public, address=address) as run:
        with run.connect("replica.internal", 8000) as sock:
            assert sock.recv(100) == b""
        assert address in run.decision("deny")["reason"]
        assert server.connections == 0


def test_a_pipe_takes_more_than_a_web_server_is_sent(tmp_path: Path) -> None:
    size = 60_000_000

    def swallow(_server: Origin, conn: socket.socket) -> None:
        buffer, got = bytearray(1 << 20), 0
        while count := conn.recv_into(buffer):
            got += count
        conn.sendall(str(got).encode())

    with origin(swallow) as server, run_with(tmp_path, server, REPLICA) as run:
        with run.connect("replica.internal", 8000) as sock:
            sock.sendall(bytes(size))
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == str(size).encode()
        run.gateway.wait_line("closed", host=DATABASE, sent=size)
