import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract.inside.programs import program
from tests.contract.inside.run import (
    ALLOWED,
    PUBLIC,
    Origin,
    Run,
    lookup,
    origin,
    policy,
    question,
    read_all,
    running,
)
from tests.support.hellos import client_hello, in_records, with_extension

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])

ALERT = bytes.fromhex("15030300020231")
OTHER = "other.example.com"


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


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[tuple[Run, Origin]]:
    with origin(echo) as server, run_for(tmp_path, server) as run:
        yield run, server


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[Run, Origin]]:
    with origin(answer_and_close) as server, run_for(tmp_path, server) as run:
        yield run, server


def run_for(where: Path, server: Origin) -> AbstractContextManager[Run]:
    return running(
        where,
        rules=policy(
            ALLOWED, "unresolvable.example.com", "metadata.example.com", "down.example.com"
        ),
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


def get(host: str, *more: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", f"Host: {host}", *more, "", ""]).encode()


class TestTls:
    def test_an_allowed_name_is_passed_through(self, echoing: tuple[Run, Origin]) -> None:
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
        self, echoing: tuple[Run, Origin], size: int
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
            (OTHER, client_hello(OTHER), "is not on the list"),
            (ALLOWED, client_hello(OTHER), "another host"),
            (ALLOWED, client_hello(None), "names no server"),
            (ALLOWED, with_extension(client_hello(ALLOWED), 0xFE0D), "encrypted"),
            (ALLOWED, get(ALLOWED), "not TLS"),
            ("metadata.example.com", client_hello("metadata.example.com"), "169.254.169.254"),
            ("unresolvable.example.com", client_hello("unresolvable.example.com"), "not resolve"),
        ],
    )
    def test_anything_else_is_denied_with_an_alert(
        self, echoing: tuple[Run, Origin], host: str, first: bytes, reason: str
    ) -> None:
        run, server = echoing
        with run.connect(host, 443) as sock:
            sock.sendall(first)
            assert read_all(sock) == ALERT
        assert reason in run.decision("deny")["reason"]
        assert server.connections == 0

    def test_a_connection_that_says_nothing_is_ended(self, echoing: tuple[Run, Origin]) -> None:
        run, _ = echoing
        with run.connect(ALLOWED, 443) as sock:
            assert read_all(sock) == ALERT
        assert "too long" in run.decision("deny")["reason"]

    def test_a_host_that_is_down_closes_the_connection(self, echoing: tuple[Run, Origin]) -> None:
        run, _ = echoing
        with run.connect("down.example.com", 443) as sock:
            sock.sendall(client_hello("down.example.com"))
            assert read_all(sock) == b""
        run.gateway.wait_line("closed", host="down.example.com", sent=0, received=0)

    def test_the_end_of_one_direction_leaves_the_other_open(self, tmp_path: Path) -> None:
        def late(server: Origin, conn: socket.socket) -> None:
            while data := conn.recv(65536):
                server.got += data
            conn.sendall(b"after your end")

        hello = client_hello(ALLOWED)
        with (
            origin(late) as server,
            run_for(tmp_path, server) as run,
            run.connect(ALLOWED, 443) as sock,
        ):
            sock.sendall(hello)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"after your end"

    def test_much_data_goes_through_fast(self, tmp_path: Path) -> None:
        size = 256 * 1024 * 1024

        def pour(_server: Origin, conn: socket.socket) -> None:
            conn.recv(65536)
            block = bytes(1 << 20)
            for _ in range(size >> 20):
                conn.sendall(block)

        with origin(pour) as server, run_for(tmp_path, server) as run:
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

    def test_an_idle_connection_is_ended(self, tmp_path: Path) -> None:
        hello = client_hello(ALLOWED)
        with (
            origin(echo) as server,
            running(
                tmp_path,
                rules=policy(ALLOWED),
                names={ALLOWED: [PUBLIC]},
                addresses={PUBLIC: server.port},
                args=("--idle-seconds=0.5",),
            ) as run,
            run.connect(ALLOWED, 443) as sock,
        ):
            sock.sendall(hello)
            assert read_all(sock) == hello
            run.gateway.wait_line("closed", host=ALLOWED)

    def test_more_connections_than_places_wait_their_turn(
        self, echoing: tuple[Run, Origin]
    ) -> None:
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


class TestHttp:
    def test_one_request_is_forwarded_with_our_host_and_close(
        self, answering: tuple[Run, Origin]
    ) -> None:
        run, server = answering
        reply = request(
            run,
            get(f"{ALLOWED.upper()}:80", "Connection: keep-alive, x-hop", "X-Hop: 1", "X-End: 2"),
        )
        assert reply.endswith(b"ok")
        assert server.got == (
            f"GET / HTTP/1.1\r\nhost: {ALLOWED}\r\nx-end: 2\r\nconnection: close\r\n\r\n".encode()
        )
        run.gateway.wait_line("closed", host=ALLOWED, port=80)

    @pytest.mark.parametrize(
        ("framing", "body", "forwarded"),
        [
            ("Content-Length: 7", b"bodyEND", b"bodyEND"),
            ("Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
        ],
    )
    def test_what_follows_the_body_is_never_forwarded(
        self, answering: tuple[Run, Origin], framing: str, body: bytes, forwarded: bytes
    ) -> None:
        run, server = answering
        head = f"POST /x HTTP/1.1\r\nHost: {ALLOWED}\r\n{framing}\r\n\r\n".encode()
        second = get("evil.example.com", "X-Smuggled: yes")
        assert request(run, head + body + second).endswith(b"ok")
        assert server.got.endswith(b"\r\n\r\n" + forwarded)
        assert server.connections == 1
        assert len(run.gateway.kinds("decision")) == 1

    @pytest.mark.parametrize(
        "chunks", [b"zz\r\n", b"4;ext=1\r\nbody\r\n0\r\n\r\n", b"4\r\nbodyX\r\n"]
    )
    def test_broken_chunks_end_the_connection(
        self, answering: tuple[Run, Origin], chunks: bytes
    ) -> None:
        run, server = answering
        head = f"POST / HTTP/1.1\r\nHost: {ALLOWED}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        request(run, head + chunks)
        run.gateway.wait_line("closed")
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
        self, answering: tuple[Run, Origin], host: str, raw: bytes, status: bytes
    ) -> None:
        run, server = answering
        reply = request(run, raw, host=host)
        assert reply.startswith(b"HTTP/1.1 " + status)
        assert f"x-errand-denied: host={host}; reason=".encode() in reply
        assert b"Errand's gateway did not let this request through" in reply
        assert server.connections == 0

    def test_the_decision_is_written_before_the_server_is_dialled(
        self, answering: tuple[Run, Origin]
    ) -> None:
        run, _ = answering
        request(run, get(ALLOWED))
        run.gateway.wait_line("closed")
        kinds = [line["kind"] for line in run.gateway.lines]
        assert kinds.index("decision") < kinds.index("closed")
        assert run.decision("allow")["rule"] == f"egress:{ALLOWED}"

    def test_a_client_that_waits_for_continue_is_served(self, tmp_path: Path) -> None:
        def careful(server: Origin, conn: socket.socket) -> None:
            server.got += conn.recv(65536)
            conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            server.got += conn.recv(65536)
            conn.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

        head = f"PUT / HTTP/1.1\r\nHost: {ALLOWED}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
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


class TestPolicy:
    def test_an_empty_policy_denies_everything(self, tmp_path: Path) -> None:
        with running(tmp_path, rules=policy()) as run:
            assert b" 403 " in request(run, get(ALLOWED))

    def test_a_later_policy_counts_at_once(self, answering: tuple[Run, Origin]) -> None:
        run, _ = answering
        assert b" 403 " in request(run, get(OTHER), host=OTHER)
        run.gateway.send("policy:2", policy(ALLOWED, OTHER))
        run.gateway.wait_line("received", key="policy:2")
        assert request(run, get(OTHER), host=OTHER).endswith(b"ok")

    def test_a_broken_policy_leaves_the_last_good_one(self, answering: tuple[Run, Origin]) -> None:
        run, _ = answering
        run.gateway.send("policy:2", {"do": "policy", "egress": ["*"]})
        run.gateway.wait_line("received", key="policy:2")
        assert request(run, get(ALLOWED)).endswith(b"ok")
        assert b" 403 " in request(run, get(OTHER), host=OTHER)

    def test_a_first_policy_that_is_broken_ends_the_gateway(self, tmp_path: Path) -> None:
        path = tmp_path / "gw.sock"
        with program("runner.inside.gateway", f"--socket={path}") as gateway:
            gateway.send("policy", {"do": "policy", "egress": "everything"})
            assert gateway.ended() == 70
            assert not path.exists()

    def test_the_policy_is_not_in_the_log(self, answering: tuple[Run, Origin]) -> None:
        run, _ = answering
        assert run.gateway.wait_line("received", key="policy").keys() == {"n", "at", "kind", "key"}

    def test_a_private_address_needs_policy(self, tmp_path: Path) -> None:
        names = {ALLOWED: ["10.0.0.5"], OTHER: ["10.0.0.5"]}
        with (
            origin(answer_and_close) as server,
            running(
                tmp_path,
                rules=policy(ALLOWED, OTHER, private=(OTHER,)),
                names=names,
                addresses={"10.0.0.5": server.port},
            ) as run,
        ):
            assert b" 403 " in request(run, get(ALLOWED))
            assert request(run, get(OTHER), host=OTHER).endswith(b"ok")

    def test_a_port_outside_policy_is_closed(self, echoing: tuple[Run, Origin]) -> None:
        run, server = echoing
        with run.connect(ALLOWED, 8000) as sock:
            assert read_all(sock) == b""
        assert run.decision("deny")["port"] == 8000
        assert server.connections == 0


class TestAcceptor:
    def test_an_address_that_was_not_given_out_leads_nowhere(
        self, answering: tuple[Run, Origin]
    ) -> None:
        run, server = answering
        with run.connect_to("127.99.0.1", 80) as sock:
            sock.sendall(get(ALLOWED))
            assert b" 403 " in read_all(sock)
        assert run.decision("deny")["host"] == ""
        assert server.connections == 0

    def test_only_the_acceptors_user_is_listened_to(self, tmp_path: Path) -> None:
        path = tmp_path / "gw.sock"
        with program(
            "runner.inside.gateway", f"--acceptor-uid={os.getuid() + 1}", f"--socket={path}"
        ) as gateway:
            gateway.send("policy", policy(ALLOWED))
            gateway.wait_line("ready")
            ours, theirs = socket.socketpair()
            with socket.socket(socket.AF_UNIX) as peer, ours, theirs:
                peer.settimeout(10)
                peer.connect(str(path))
                socket.send_fds(peer, [b'{"host":"x.example.com","port":80}'], [theirs.fileno()])
                theirs.close()
                ours.settimeout(10)
                assert ours.recv(1) == b""
            assert not gateway.kinds("decision")

    @pytest.mark.parametrize("message", [b"{", b"[]", b'{"host":1,"port":80}', b'{"host":"a.bc"}'])
    def test_an_odd_message_on_the_socket_is_dropped(
        self, answering: tuple[Run, Origin], tmp_path: Path, message: bytes
    ) -> None:
        run, _ = answering
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as peer, ours:
            peer.connect(str(tmp_path / "gw.sock"))
            socket.send_fds(peer, [message], [theirs.fileno()])
            theirs.close()
            ours.settimeout(10)
            assert ours.recv(1) == b""
        assert request(run, get(ALLOWED)).endswith(b"ok")

    def test_each_name_has_an_address_of_its_own(self, answering: tuple[Run, Origin]) -> None:
        run, _ = answering
        first, second = (lookup(name, port=run.dns) for name in (ALLOWED, OTHER))
        assert (first, second) == ("127.64.0.1", "127.64.0.2")
        assert lookup(ALLOWED.upper(), port=run.dns) == first
        assert lookup("localhost", port=run.dns) == ""

    def test_dns_answers_over_tcp_too(self, answering: tuple[Run, Origin]) -> None:
        run, _ = answering
        query = question(ALLOWED)
        with socket.create_connection(("127.0.0.1", run.dns), timeout=5) as sock:
            for _ in range(2):
                sock.sendall(struct.pack(">H", len(query)) + query)
                size = struct.unpack(">H", sock.recv(2))[0]
                assert sock.recv(size).endswith(socket.inet_aton("127.64.0.1"))

    def test_connections_wait_for_a_gateway_that_is_late(self, tmp_path: Path) -> None:
        path = tmp_path / "gw.sock"
        args = ("--unchecked", "--dns-port=0", f"--gateway={path}", "0=80")
        with program("runner.inside.acceptor", *args) as acceptor:
            ready = acceptor.wait_line("ready")
            with socket.create_connection(("127.0.0.1", ready["ports"]["80"]), timeout=10) as sock:
                gateway_args = (f"--acceptor-uid={os.getuid()}", f"--socket={path}")
                with program("runner.inside.gateway", *gateway_args) as gateway:
                    gateway.send("policy", policy())
                    sock.sendall(get(ALLOWED))
                    assert b" 403 " in read_all(sock)

    def test_a_dead_gateway_means_closed_connections(self, answering: tuple[Run, Origin]) -> None:
        run, _ = answering
        run.gateway.proc.kill()
        run.gateway.proc.wait()
        with run.connect(ALLOWED, 443) as sock:
            assert read_all(sock) == b""
        assert run.acceptor.proc.poll() is None

    def test_many_clients_at_once_are_kept_apart(self, echoing: tuple[Run, Origin]) -> None:
        run, _ = echoing
        wrong: list[int] = []

        def one(number: int) -> None:
            first = client_hello(ALLOWED) + b"%d" % number * 50_000
            with run.connect(ALLOWED, 443) as sock:
                threading.Thread(target=sock.sendall, args=(first,), daemon=True).start()
                got = b""
                while len(got) < len(first):
                    got += sock.recv(65536)
                if got != first:
                    wrong.append(number)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not wrong
