import socket
from pathlib import Path

import pytest

from tests.contract.inside.run import (
    ALLOWED,
    OTHER,
    Origin,
    Run,
    get,
    origin,
    read_all,
    request,
    run_for,
)

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])


def test_one_request_is_forwarded_with_our_host_and_close(answering: tuple[Run, Origin]) -> None:
    run, server = answering
    reply = request(
        run,
        get(
            f"{ALLOWED.upper()}:80",
            "Connection: keep-alive, close, x-hop",
            "X-Hop: 1",
            "X-End: 2",
            stays=True,
        ),
    )
    assert reply.endswith(b"ok")
    assert server.got == (f"GET / HTTP/1.1\r\nhost: {ALLOWED}\r\nx-end: 2\r\n\r\n".encode())
    run.gateway.wait_line("closed", host=ALLOWED, port=80)


@pytest.mark.parametrize(
    ("framing", "body", "forwarded"),
    [
        ("Content-Length: 7", b"bodyEND", b"bodyEND"),
        ("Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
    ],
)
def test_what_follows_a_body_is_another_request_and_judged_as_one(
    answering: tuple[Run, Origin], framing: str, body: bytes, forwarded: bytes
) -> None:
    run, server = answering
    head = f"POST /x HTTP/1.1\r\nHost: {ALLOWED}\r\n{framing}\r\n\r\n".encode()
    second = get("evil.example.com", "X-Smuggled: yes")
    replies = request(run, head + body + second)
    assert replies.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 403 ")
    assert server.got.endswith(b"\r\n\r\n" + forwarded)
    assert server.connections == 1
    assert "asks for evil.example.com" in run.decision("deny")["reason"]


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"4;ext=1\r\nbody\r\n0\r\n\r\n", b"4\r\nbodyX\r\n"])
def test_broken_chunks_end_the_connection(answering: tuple[Run, Origin], chunks: bytes) -> None:
    run, server = answering
    head = f"POST / HTTP/1.1\r\nHost: {ALLOWED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert request(run, head + chunks).startswith(b"HTTP/1.1 400 ")
    run.gateway.wait_line("closed")
    assert "a chunk" in run.decision("deny")["reason"]
    assert b"0\r\n\r\n" not in server.got


@pytest.mark.parametrize(
    ("host", "raw", "status"),
    [
        (OTHER, get(OTHER), b"403"),
        (ALLOWED, get(OTHER), b"403"),
        ("metadata.example.com", get("metadata.example.com"), b"403"),
        (ALLOWED, get(ALLOWED).replace(b"\r\n", b"\n"), b"400"),
        (ALLOWED, get(ALLOWED, "Content-Length: 1", "Transfer-Encoding: chunked"), b"400"),
        (
            ALLOWED,
            b"CONNECT evil.example.com:443 HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
            b"400",
        ),
        (ALLOWED, get(ALLOWED, "X: " + "y" * 20000), b"431"),
        ("down.example.com", get("down.example.com"), b"502"),
    ],
)
def test_refusals_say_why(
    answering: tuple[Run, Origin], host: str, raw: bytes, status: bytes
) -> None:
    run, server = answering
    reply = request(run, raw, host=host)
    assert reply.startswith(b"HTTP/1.1 " + status)
    assert f"x-errand-denied: host={host}; reason=".encode() in reply
    assert b"Errand's gateway did not let this request through" in reply
    assert server.connections == 0


def test_the_decision_is_written_before_the_server_is_dialled(
    answering: tuple[Run, Origin],
) -> None:
    run, _ = answering
    request(run, get(ALLOWED))
    run.gateway.wait_line("closed")
    kinds = [line["kind"] for line in run.gateway.lines]
    assert kinds.index("decision") < kinds.index("closed")
    assert run.decision("allow")["rule"] == f"egress:{ALLOWED}"


def test_a_client_that_waits_for_continue_is_served(tmp_path: Path) -> None:
    def careful(server: Origin, conn: socket.socket) -> None:
        server.got += conn.recv(65536)
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        server.got += conn.recv(65536)
        conn.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    head = f"PUT / HTTP/1.1\r\nHost: {ALLOWED}\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with (
        origin(careful) as server,
        run_for(tmp_path, server) as run,
        run.connect(ALLOWED, 80) as sock,
    ):
        sock.sendall(head.encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(b"body")
        assert b"204" in read_all(sock)
        assert server.got.endswith(b"body")
