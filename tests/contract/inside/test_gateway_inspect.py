"""TLS that the gateway answers itself: every request is seen, judged by method and path, and forwarded over TLS."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contract.inside.origins import OK, inspected, reply, requests, saying, secure, trusting
from tests.contract.inside.run import ALERT, ALLOWED, OTHER, PUBLIC, Origin, get, read_all, rule
from tests.support.hellos import client_hello, with_extension

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])

READING = rule(ALLOWED, methods=["GET", "HEAD"])


def post(body: bytes = b"", *more: str, path: str = "/", host: str = ALLOWED) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_client_that_trusts_the_bundle_is_served(tmp_path: Path) -> None:
    with inspected(tmp_path, saying(OK)) as (run, server):
        with secure(run, tmp_path, ALLOWED) as tls:
            assert tls.selected_alpn_protocol() == "http/1.1"
            tls.sendall(get(ALLOWED, path="/a?secret=1", stays=True))
            assert reply(tls) == OK
        decision = run.decision("allow")
        assert (decision["method"], decision["path"]) == ("GET", "/a")
        assert (decision["rule"], decision["address"]) == (f"egress:{ALLOWED}", PUBLIC)
        assert b"GET /a?secret=1 HTTP/1.1\r\n" in server.got
        closed = run.gateway.wait_line("closed", host=ALLOWED, port=443, requests=1, received=2)
        assert closed["sent"] > 40
        assert "secret=1" not in str(run.gateway.lines)


def test_every_request_of_a_connection_is_judged(tmp_path: Path) -> None:
    only = rule(ALLOWED, methods=["GET"], paths=["/open/*"])
    with (
        inspected(tmp_path, saying(OK), only) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        for path in ("/open/1", "/open/2"):
            tls.sendall(get(ALLOWED, path=path, stays=True))
            assert reply(tls) == OK
        tls.sendall(get(ALLOWED, path="/closed", stays=True))
        assert reply(tls).startswith(b"HTTP/1.1 403 ")
        assert server.connections == 1
        assert b"/closed" not in server.got
        run.gateway.wait_line("closed", requests=2)
        assert len(run.gateway.kinds("decision", verdict="allow")) == 1
        assert run.decision("deny")["path"] == "/closed"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (post(b"x"), "POST is not allowed to"),
        (post(b"x", path="/open"), "POST is not allowed to"),
        (get(ALLOWED, path="/open/a%2fb"), "encoded slash"),
        (get(ALLOWED, path="/other"), "this path is not allowed"),
        (get(OTHER, path="/open/"), "asks for other.example.com"),
        (get(f"{ALLOWED}:80", path="/open/"), "asks for allowed.example.com:80"),
    ],
)
def test_a_denied_request_is_told_why_in_a_header_and_in_words(
    tmp_path: Path, raw: bytes, said: str
) -> None:
    only = rule(ALLOWED, methods=["GET"], paths=["/open/*"])
    with (
        inspected(tmp_path, saying(OK), only) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(raw)
        head, _, body = read_all(tls).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 ")
        assert f"x-errand-denied: host={ALLOWED}; reason=".encode() in head
        assert said.encode() in head
        assert said.encode() in body
        assert said in run.decision("deny")["reason"]
        assert server.connections == 0


def test_a_host_that_is_not_listed_is_told_so_over_tls_and_never_dialled(tmp_path: Path) -> None:
    with inspected(tmp_path, saying(OK)) as (run, server):
        with secure(run, tmp_path, OTHER) as tls:
            tls.sendall(get(OTHER))
            said = read_all(tls)
        assert said.startswith(b"HTTP/1.1 403 ")
        assert b"other.example.com is not on the list of hosts" in said
        decision = run.decision("deny")
        assert (decision["host"], decision["port"], decision["method"]) == (OTHER, 443, "GET")
        assert server.connections == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(ALLOWED, path="/a/../b"), b"400"),
        (get(ALLOWED, path="/%2e%2e/b"), b"400"),
        (get(ALLOWED, path="/%252e%252e/b"), b"400"),
        (get(ALLOWED, path="//b"), b"400"),
        (get(ALLOWED, path="/a;b"), b"400"),
        (get(ALLOWED, path="/a\\b"), b"400"),
        (get(ALLOWED, path="/a%5cb"), b"400"),
        (get(ALLOWED, path="/a#b"), b"400"),
        (get(ALLOWED, path=f"https://{ALLOWED}/"), b"400"),
        (get(ALLOWED, path="/" + "x" * 8192), b"400"),
        (get(ALLOWED, "X: " + "y" * 20_000), b"431"),
        (get(ALLOWED, *(f"X{i}: y" for i in range(200))), b"431"),
        (get(ALLOWED, "X : y"), b"400"),
        (get(ALLOWED, "X: a\0b"), b"400"),
        (get(ALLOWED, "X: a\r\n folded"), b"400"),
        (get(ALLOWED).replace(b"\r\n", b"\n"), b"400"),
        (get(ALLOWED, "Content-Length: 1", "Transfer-Encoding: chunked"), b"400"),
        (get(ALLOWED, "Content-Length: 1", "Content-Length: 1"), b"400"),
        (get(ALLOWED, "Content-Length: +1"), b"400"),
        (get(ALLOWED, "Transfer-Encoding: \x0bchunked"), b"400"),
        (get(ALLOWED, "Transfer-Encoding: chunked, identity"), b"501"),
        (get(ALLOWED, "Expect: something"), b"417"),
        (get(ALLOWED, "Connection: Upgrade", "Upgrade: websocket", stays=True), b"403"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"CONNECT evil.example.com:443 HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", b"400"),
        (get(ALLOWED).replace(b"HTTP/1.1", b"HTTP/1.0"), b"400"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", b"400"),
    ],
)
def test_what_could_be_read_in_two_ways_reaches_no_server(
    tmp_path: Path, raw: bytes, status: bytes
) -> None:
    with (
        inspected(tmp_path, saying(OK)) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(raw)
        assert read_all(tls).startswith(b"HTTP/1.1 " + status)
        assert run.decision("deny")["host"] == ALLOWED
        assert server.connections == 0


def test_an_upgrade_to_another_http_is_left_out(tmp_path: Path) -> None:
    with (
        inspected(tmp_path, saying(OK)) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x")
        tls.sendall(get(ALLOWED, *h2c, stays=True))
        assert reply(tls) == OK
        assert b"h2c" not in server.got
        assert b"pgrade" not in server.got


def test_a_server_that_wants_another_protocol_is_cut_off(tmp_path: Path) -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nraw"
    with (
        inspected(tmp_path, saying(switching)) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED))
        assert read_all(tls).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("name", [OTHER, "example.com"])
def test_a_server_must_prove_its_name(tmp_path: Path, name: str) -> None:
    with (
        inspected(tmp_path, saying(OK), name=name) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED))
        said = read_all(tls)
        assert said.startswith(b"HTTP/1.1 502 ")
        assert b"certificate is not accepted" in said
        assert "certificate" in run.gateway.wait_line("closed")["reason"]
        assert server.got == b""


def test_another_name_in_the_hello_is_refused(tmp_path: Path) -> None:
    with inspected(tmp_path, saying(OK)) as (run, server):
        with run.connect(ALLOWED, 443) as sock:
            sock.sendall(client_hello(OTHER))
            assert read_all(sock) == ALERT
        assert "asks for other.example.com" in run.decision("deny")["reason"]
        assert server.connections == 0


def test_noise_in_place_of_a_second_hello_is_no_reason_to_refuse(tmp_path: Path) -> None:
    with (
        inspected(tmp_path, saying(OK)) as (run, _),
        run.connect(ALLOWED, 443) as sock,
    ):
        sock.sendall(with_extension(client_hello(ALLOWED), 0xFE0D, b"\0noise"))
        assert sock.recv(3) == b"\x16\x03\x03"


def test_a_client_that_trusts_somebody_else_is_on_record(tmp_path: Path) -> None:
    with inspected(tmp_path, saying(OK)) as (run, server):
        with (
            run.connect(ALLOWED, 443) as sock,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            ssl.create_default_context().wrap_socket(sock, server_hostname=ALLOWED)
        assert "the client ended the TLS handshake" in run.decision("deny")["reason"]
        assert server.connections == 0


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path) -> None:
    with inspected(tmp_path, saying(OK)) as (run, _), run.connect(ALLOWED, 443) as sock:
        context = trusting(tmp_path)
        with pytest.warns(DeprecationWarning, match="TLS"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLS"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.raises(OSError, match=r"."):
            context.wrap_socket(sock, server_hostname=ALLOWED)


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(b"ab", b"c"),
            b"200",
            b"abc",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nX-Trailer: 1\r\n\r\n",
            b"200",
            b"ab",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"204", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"304", b""),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"200", b"ok"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            b"302",
            b"",
        ),
    ],
)
def test_answers_come_through_whole_and_the_connection_goes_on(
    tmp_path: Path, answer: bytes, status: bytes, body: bytes
) -> None:
    with (
        inspected(tmp_path, saying(answer, OK)) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED, stays=True) + get(ALLOWED, path="/2"))
        said = read_all(tls)
        first, _, rest = said.partition(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
        assert rest == b"ok"
        assert first.startswith(b"HTTP/1.1 " + status)
        assert b"railer" not in first
        assert first.partition(b"\r\n\r\n")[2] == (
            chunks(body) if b"chunked" in first else body
        ) or (b"chunked" in first and b"".join(unchunked(first.partition(b"\r\n\r\n")[2])) == body)
        assert server.connections == 1


def unchunked(data: bytes) -> list[bytes]:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return parts


def test_the_answer_to_head_has_no_body(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n"
    with (
        inspected(tmp_path, saying(answer, OK), READING) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED, stays=True).replace(b"GET", b"HEAD") + get(ALLOWED))
        assert read_all(tls) == (
            b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        )


@pytest.mark.parametrize("end", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_an_answer_that_ends_with_its_connection_ends_for_the_client_too(
    tmp_path: Path, end: bytes
) -> None:
    def talk(server: Origin, conn: socket.socket) -> None:
        for found in requests(conn):
            server.got += found
            conn.sendall(end + b"until the end")
            return

    with (
        inspected(tmp_path, talk) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED, stays=True) + get(ALLOWED))
        said = read_all(tls)
        assert said.count(b"until the end") == 2
        assert said.count(b"\r\n0\r\n\r\n") == 2
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
        b"",
    ],
)
def test_an_answer_that_could_be_read_in_two_ways_is_not_passed_on(
    tmp_path: Path, answer: bytes
) -> None:
    def talk(_server: Origin, conn: socket.socket) -> None:
        for _ in requests(conn):
            conn.sendall(answer)
            return

    with (
        inspected(tmp_path, talk) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED))
        assert read_all(tls).startswith(b"HTTP/1.1 502 ")


def test_an_answer_that_breaks_off_is_no_whole_one_for_the_client(tmp_path: Path) -> None:
    def talk(_server: Origin, conn: socket.socket) -> None:
        for _ in requests(conn):
            conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
            return

    with (
        inspected(tmp_path, talk) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED, stays=True))
        assert read_all(tls).endswith(b"content-length: 100\r\n\r\npart")
        assert "ended" in run.gateway.wait_line("closed")["reason"]


def test_a_server_that_ended_an_idle_connection_is_dialled_again(tmp_path: Path) -> None:
    def once(server: Origin, conn: socket.socket) -> None:
        for found in requests(conn):
            server.got += found
            conn.sendall(OK)
            return

    with (
        inspected(tmp_path, once) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        for _ in range(3):
            tls.sendall(get(ALLOWED, stays=True))
            assert reply(tls) == OK
        assert server.connections == 3


def test_a_large_body_goes_up_and_comes_back(tmp_path: Path) -> None:
    def mirror(_server: Origin, conn: socket.socket) -> None:
        for found in requests(conn):
            body = found.partition(b"\r\n\r\n")[2]
            conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    body = bytes(range(256)) * 8192
    with (
        inspected(tmp_path, mirror) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(post(body))
        assert reply(tls).endswith(b"\r\n\r\n" + body)
        run.gateway.kinds("closed")


def test_a_server_may_answer_before_it_has_all(tmp_path: Path) -> None:
    def impatient(_server: Origin, conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        while conn.recv(65536):
            pass

    with (
        inspected(tmp_path, impatient) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(
            f"PUT / HTTP/1.1\r\nHost: {ALLOWED}\r\nContent-Length: 1000\r\n\r\npart".encode()
        )
        assert read_all(tls).startswith(b"HTTP/1.1 413 Too Large\r\n")


@pytest.mark.parametrize("willing", [True, False])
def test_a_client_that_waits_before_its_body_is_answered(
    tmp_path: Path,
    willing: bool,  # noqa: FBT001
) -> None:
    def careful(server: Origin, conn: socket.socket) -> None:
        server.got += conn.recv(65536)
        if not willing:
            conn.sendall(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
            return
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        server.got += conn.recv(65536)
        conn.sendall(OK)

    head = f"PUT / HTTP/1.1\r\nHost: {ALLOWED}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with (
        inspected(tmp_path, careful) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(head.encode())
        first = tls.recv(65536)
        if not willing:
            assert first.startswith(b"HTTP/1.1 403 No")
            return
        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        tls.sendall(b"body")
        assert reply(tls) == OK
        assert server.got.endswith(b"body")


def test_where_a_run_only_reads_it_cannot_send_much(tmp_path: Path) -> None:
    little = rule(ALLOWED, upload=1000)
    with (
        inspected(tmp_path, saying(OK), little) as (run, server),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED, stays=True))
        assert reply(tls) == OK
        tls.sendall(post(b"x" * 900))
        assert b"may send 1000 bytes" in read_all(tls)
        assert b"xxx" not in server.got


def test_what_comes_in_chunks_is_counted_while_it_goes(tmp_path: Path) -> None:
    little = rule(ALLOWED, upload=10_000)
    head = f"POST / HTTP/1.1\r\nHost: {ALLOWED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with (
        inspected(tmp_path, saying(OK), little) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(head + chunks(b"x" * 4000, b"x" * 4000, b"x" * 4000))
        assert read_all(tls).startswith(b"HTTP/1.1 403 ")
        assert "used up" in run.decision("deny")["reason"]
        assert run.gateway.wait_line("closed")["sent"] <= 10_000


def test_a_rule_may_name_other_ports_and_say_what_they_speak(tmp_path: Path) -> None:
    tls_only = rule(ALLOWED, ports=["https:8000"])
    with inspected(tmp_path, saying(OK), tls_only) as (run, _):
        with secure(run, tmp_path, ALLOWED, port=8000) as tls:
            tls.sendall(get(f"{ALLOWED}:8000", stays=True))
            assert reply(tls) == OK
        with run.connect(ALLOWED, 8000) as sock:
            sock.sendall(get(f"{ALLOWED}:8000"))
            assert b"does not speak" in read_all(sock)
        with run.connect(ALLOWED, 80) as sock:
            sock.sendall(get(ALLOWED))
            assert b"port 80 is not open" in read_all(sock)


def test_a_wildcard_covers_what_is_below_it(tmp_path: Path) -> None:
    wild = rule("*.example.com")
    with (
        inspected(tmp_path, saying(OK), wild) as (run, _),
        secure(run, tmp_path, ALLOWED) as tls,
    ):
        tls.sendall(get(ALLOWED, stays=True))
        assert reply(tls) == OK
        assert run.decision("allow")["rule"] == "egress:*.example.com"


def test_an_opened_host_is_open_at_once_and_only_until_its_end(tmp_path: Path) -> None:
    def opening(key: str, until: float | None, **fields: Any) -> None:
        msg = {"do": "allow", "rule": {"host": ALLOWED, **fields}, "until": until}
        run.gateway.send(key, msg)
        run.gateway.wait_line("received", key=key)

    with inspected(tmp_path, saying(OK), OTHER) as (run, _):
        with secure(run, tmp_path, ALLOWED) as tls:
            tls.sendall(get(ALLOWED))
            assert read_all(tls).startswith(b"HTTP/1.1 403 ")
        opening("cmd:late", 1.0)
        assert "after its end" in run.gateway.wait_line("remark")["text"]
        opening("cmd:1", None, methods=["GET"])
        with secure(run, tmp_path, ALLOWED) as tls:
            tls.sendall(get(ALLOWED, stays=True))
            assert reply(tls) == OK
            assert run.decision("allow")["rule"] == f"allowed:{ALLOWED}"
            tls.sendall(post(b"x"))
            assert read_all(tls).startswith(b"HTTP/1.1 403 ")


def test_many_connections_at_once_are_served(tmp_path: Path) -> None:
    results: list[bytes] = []

    def one() -> None:
        with secure(run, tmp_path, ALLOWED) as tls:
            for _ in range(5):
                tls.sendall(get(ALLOWED, stays=True))
                results.append(reply(tls))

    with inspected(tmp_path, saying(OK)) as (run, server):
        threads = [threading.Thread(target=one) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert results == [OK] * 100
        assert server.connections == 20
