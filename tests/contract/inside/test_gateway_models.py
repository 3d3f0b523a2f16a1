"""A model connection: the client's credentials never leave, ours never arrive, and nothing else can be asked."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from policies.pricelist import prices_for
from tests.contract.inside.run import (
    ALLOWED,
    PUBLIC,
    Origin,
    Run,
    more,
    origin,
    policy,
    read_all,
    request,
    running,
)

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])

HOST = "anthropic.llm.internal"
UPSTREAM = "models.acme.test"
PRIVATE = "10.0.0.1"
SECRET = "sk-real-canary"
MESSAGE = b'{"model": "claude-opus-5", "messages": []}'
CLIENT_SECRETS = (
    "Authorization: Bearer sk-client",
    "Proxy-Authorization: Basic sk-client",
    "X-Api-Key: sk-client",
    "API-Key: sk-client",
    "Cookie: a=sk-client",
    "Private-Token: sk-client",
    "X-Goog-Api-Key: sk-client",
    "Connection: x-listed",
    "X-Listed: sk-client",
)


def connection(**changes: Any) -> dict[str, Any]:
    given = {
        "kind": "llm",
        "name": "anthropic",
        "dialect": "anthropic",
        "upstream": f"http://{UPSTREAM}:8000",
        "private": True,
        "header": "x-api-key",
        "scheme": "",
        "user": "",
        "models": ["claude-*"],
        "allow": [],
        "prices": prices_for("anthropic", ()),
        "secret": SECRET,
    }
    return given | changes


def run_with(
    where: Path,
    server: Origin,
    *,
    address: str = PRIVATE,
    env: Mapping[str, str] | None = None,
    budget: float = 5,
    **changes: Any,
) -> AbstractContextManager[Run]:
    return running(
        where,
        rules=policy(
            ALLOWED,
            connections=[connection(**changes)],
            budget={"limit_usd": budget, "spent_usd": 0},
        ),
        names={UPSTREAM: [address], PRIVATE: [PRIVATE]},
        addresses={PRIVATE: server.port, PUBLIC: server.port},
        env=env,
    )


def post(
    body: bytes = MESSAGE, *more: str, target: str = "/v1/messages?beta=true", host: str = HOST
) -> bytes:
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def serve(
    *headers: str, body: bytes = b"ok", tls: ssl.SSLContext | None = None
) -> Callable[[Origin, socket.socket], None]:
    """A model server that reads one request and answers."""

    def talk(server: Origin, conn: socket.socket) -> None:
        conn.settimeout(5)
        if tls is not None:
            conn = tls.wrap_socket(conn, server_side=True)
        read_request(server, conn)
        head = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers, "", ""]
        conn.sendall("\r\n".join(head).encode() + body)
        if tls is not None:
            conn.close()

    return talk


def read_request(server: Origin, conn: socket.socket) -> None:
    while b"\r\n\r\n" not in server.got:
        server.got += more(conn)
    head, _, body = server.got.partition(b"\r\n\r\n")
    [length] = [
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"content-length" in line
    ]
    while len(body) < length:
        piece = more(conn)
        server.got, body = server.got + piece, body + piece


@pytest.fixture
def modelled(tmp_path: Path) -> Iterator[tuple[Run, Origin]]:
    with origin(serve()) as server, run_with(tmp_path, server) as run:
        yield run, server


def test_client_credentials_are_stripped_and_ours_is_added(modelled: tuple[Run, Origin]) -> None:
    run, server = modelled
    reply = request(
        run,
        post(
            MESSAGE,
            *CLIENT_SECRETS,
            "Content-Type: application/json; charset=utf-7",
            "Anthropic-Version: 1",
        ),
        host=HOST,
    )
    assert reply.endswith(b"\r\n\r\nok")
    head, _, body = server.got.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/messages?beta=true HTTP/1.1",
        f"host: {UPSTREAM}:8000".encode(),
        f"content-length: {len(MESSAGE)}".encode(),
        b"content-type: application/json",
        b"accept-encoding: identity",
        f"x-api-key: {SECRET}".encode(),
        b"anthropic-version: 1",
        b"connection: close",
    ]
    assert body == MESSAGE


def test_one_decision_is_logged_and_the_secret_is_in_no_line(modelled: tuple[Run, Origin]) -> None:
    run, _ = modelled
    request(run, post(), host=HOST)
    run.gateway.wait_line("closed", host=UPSTREAM, port=8000)
    [decision] = run.gateway.kinds("decision")
    fields = ("verdict", "host", "port", "rule", "address", "method", "path")
    assert {k: decision[k] for k in fields} == {
        "verdict": "allow",
        "method": "POST",
        "path": "/v1/messages",
        "host": UPSTREAM,
        "port": 8000,
        "rule": "connection:anthropic",
        "address": PRIVATE,
    }
    assert SECRET not in json.dumps(run.gateway.lines)
    assert SECRET not in str(run.gateway.proc.args)


def test_chunks_are_understood_and_what_follows_the_body_is_not_forwarded(
    modelled: tuple[Run, Origin],
) -> None:
    run, server = modelled
    head = f"POST /v1/messages HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(MESSAGE), MESSAGE)
    assert request(run, head.encode() + chunks + post(), host=HOST).endswith(b"ok")
    assert server.got.endswith(b"\r\n\r\n" + MESSAGE)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (post(target="/v1/files"), "does not offer /v1/files"),
        (post(target="/v1/messages/../files"), "read in two ways"),
        (post().replace(b"POST", b"GET"), "takes POST only"),
        (post(b'{"model": "gpt-9"}'), "the model 'gpt-9' is not offered"),
        (post(b'{"model": "claude-a", "model": "x"}'), "names each key once"),
        (post(b"{}", "Content-Encoding: gzip"), "must not be compressed"),
        (post(host=ALLOWED), "no such connection"),
        (
            post(b'{"model": "claude-a", "tools": [{"type": "web_search_20250305"}]}'),
            "allow: [web_search]",
        ),
        (post().replace(b"Content-Length: 42", b"Content-Length: 99999999"), "larger than"),
    ],
)
def test_what_may_not_be_asked_is_refused_with_the_reason(
    modelled: tuple[Run, Origin], raw: bytes, why: str
) -> None:
    run, server = modelled
    reply = request(run, raw, host=HOST)
    assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
    assert why in reply.decode()
    if b"application/json" in reply:
        error = json.loads(reply.partition(b"\r\n\r\n")[2])
        assert error["error"]["type"] == "permission_error"
    assert why in run.decision("deny")["reason"]
    assert len(run.gateway.kinds("decision")) == 1
    assert server.connections == 0


def test_a_connection_that_is_not_listed_is_refused(modelled: tuple[Run, Origin]) -> None:
    run, server = modelled
    other = "other.llm.internal"
    assert b"403" in request(run, post(host=other), host=other)
    assert run.decision("deny")["host"] == other
    assert server.connections == 0


def test_the_response_streams(tmp_path: Path) -> None:
    go_on = threading.Event()

    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        go_on.wait(10)
        conn.sendall(b"data: 2\n\n")

    with (
        origin(talk) as server,
        run_with(tmp_path, server) as run,
        run.connect(HOST, 80) as sock,
    ):
        sock.sendall(post())
        got = b""
        while not got.endswith(b"data: 1\n\n"):
            got += more(sock)
        go_on.set()
        assert read_all(sock) == b"data: 2\n\n"


def test_a_response_brings_no_session_and_not_our_key(tmp_path: Path) -> None:
    talk = serve(
        "set-cookie: a=b",
        "www-authenticate: Basic",
        "connection: keep-alive",
        f"x-echo: key {SECRET}",
        "request-id: 1",
    )
    with origin(talk) as server, run_with(tmp_path, server) as run:
        head, _, _ = request(run, post(), host=HOST).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[1:] == [
        b"content-length: 2",
        b"x-echo: key [redacted]",
        b"request-id: 1",
        b"connection: close",
    ]


def test_what_comes_before_the_answer_is_not_taken_for_it(tmp_path: Path) -> None:
    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(b"HTTP/1.1 103 Early Hints\r\nset-cookie: a=b\r\n\r\n")
        conn.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with origin(talk) as server, run_with(tmp_path, server) as run:
        reply = request(run, post(), host=HOST)
    assert reply == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_a_server_that_does_not_speak_http_is_a_bad_gateway(tmp_path: Path, answer: bytes) -> None:
    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(answer)

    with origin(talk) as server, run_with(tmp_path, server) as run:
        assert request(run, post(), host=HOST).startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize("address", [PRIVATE, "169.254.169.254", "127.0.0.1"])
def test_a_public_connection_reaches_no_private_address(tmp_path: Path, address: str) -> None:
    with (
        origin(serve()) as server,
        run_with(
            tmp_path, server, address=address, upstream=f"https://{UPSTREAM}", private=False
        ) as run,
    ):
        assert b"403" in request(run, post(), host=HOST)
        denied = run.decision("deny")
        assert denied["rule"] == "connection:anthropic"
        assert address in denied["reason"]
        assert server.connections == 0


def test_an_address_can_be_named_where_policy_says_private(tmp_path: Path) -> None:
    with origin(serve()) as server, run_with(tmp_path, server, upstream=f"http://{PRIVATE}") as run:
        assert request(run, post(), host=HOST).endswith(b"ok")
        assert f"host: {PRIVATE}\r\n".encode() in server.got


def test_another_header_and_a_prefix(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "upstream": f"http://{UPSTREAM}/llm",
        "header": "authorization",
        "secret": "Bearer k",
    }
    with origin(serve()) as server, run_with(tmp_path, server, **changes) as run:
        request(run, post(MESSAGE, *CLIENT_SECRETS), host=HOST)
    assert server.got.startswith(b"POST /llm/v1/messages?beta=true HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer k\r\n" in server.got
    assert b"sk-client" not in server.got


@pytest.mark.parametrize("name", [UPSTREAM, "other.acme.test"])
def test_tls_is_verified_against_the_name_of_the_upstream(tmp_path: Path, name: str) -> None:
    certificate, tls = self_signed(tmp_path, name)
    with (
        origin(serve(tls=tls, body=b"x" * 1_000_000 + b"ok")) as server,
        run_with(
            tmp_path,
            server,
            address=PUBLIC,
            upstream=f"https://{UPSTREAM}",
            private=False,
            env={"SSL_CERT_FILE": str(certificate)},
        ) as run,
    ):
        reply = request(run, post(), host=HOST)
    if name == UPSTREAM:
        assert reply.endswith(b"\r\n\r\n" + b"x" * 1_000_000 + b"ok")
        assert f"x-api-key: {SECRET}".encode() in server.got
    else:
        assert reply.startswith(b"HTTP/1.1 502")
        assert server.got == b""


def test_a_policy_with_a_broken_connection_is_not_taken_and_not_repeated(
    modelled: tuple[Run, Origin],
) -> None:
    run, _ = modelled
    rules = policy(ALLOWED, connections=[connection(header="host", secret="sk-other")])
    run.gateway.send("later", rules)
    run.gateway.wait_line("remark")
    assert "sk-other" not in json.dumps(run.gateway.lines)
    assert request(run, post(), host=HOST).endswith(b"ok")


def self_signed(where: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    certificate, key = where / "cert.pem", where / "key.pem"
    subprocess.run(
        [
            shutil.which("openssl") or "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-out", certificate, "-keyout", key,
        ],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
