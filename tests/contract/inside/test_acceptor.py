import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.contract.inside.programs import program
from tests.contract.inside.run import (
    ALLOWED,
    OTHER,
    Origin,
    Run,
    get,
    lookup,
    more,
    policy,
    question,
    read_all,
    request,
)
from tests.support.hellos import client_hello

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])


def test_an_address_that_was_not_given_out_leads_nowhere(answering: tuple[Run, Origin]) -> None:
    run, server = answering
    with run.connect_to("127.99.0.1", 80) as sock:
        sock.sendall(get(ALLOWED))
        assert b" 403 " in read_all(sock)
    assert run.decision("deny")["host"] == ""
    assert server.connections == 0


def test_only_the_acceptors_user_is_listened_to(tmp_path: Path) -> None:
    path = tmp_path / "gw.sock"
    with program(
        "runner.inside.gateway",
        f"--acceptor-uid={os.getuid() + 1}",
        f"--socket={path}",
        f"--trust={tmp_path}",
    ) as gateway:
        gateway.send("policy", policy(ALLOWED))
        gateway.wait_line("ready")
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as peer, ours, theirs:
            peer.settimeout(10)
            peer.connect(str(path))
            with contextlib.suppress(BrokenPipeError):  # it may have hung up already
                socket.send_fds(peer, [b'{"host":"x.example.com","port":80}'], [theirs.fileno()])
            theirs.close()
            ours.settimeout(10)
            assert ours.recv(1) == b""
        assert not gateway.kinds("decision")


@pytest.mark.parametrize("message", [b"{", b"[]", b'{"host":1,"port":80}', b'{"host":"a.bc"}'])
def test_an_odd_message_on_the_socket_is_dropped(
    answering: tuple[Run, Origin], tmp_path: Path, message: bytes
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


def test_each_name_has_an_address_of_its_own(answering: tuple[Run, Origin]) -> None:
    run, _ = answering
    first, second = (lookup(name, port=run.dns) for name in (ALLOWED, OTHER))
    assert (first, second) == ("127.64.0.1", "127.64.0.2")
    assert lookup(ALLOWED.upper(), port=run.dns) == first
    assert lookup("localhost", port=run.dns) == ""


def test_dns_answers_over_tcp_too(answering: tuple[Run, Origin]) -> None:
    run, _ = answering
    query = question(ALLOWED)
    with socket.create_connection(("127.0.0.1", run.dns), timeout=5) as sock:
        for _ in range(2):
            sock.sendall(struct.pack(">H", len(query)) + query)
            size = struct.unpack(">H", sock.recv(2))[0]
            assert sock.recv(size).endswith(socket.inet_aton("127.64.0.1"))


def test_connections_wait_for_a_gateway_that_is_late(tmp_path: Path) -> None:
    path = tmp_path / "gw.sock"
    args = ("--unchecked", "--dns-port=0", f"--gateway={path}", "0=80")
    with program("runner.inside.acceptor", *args) as acceptor:
        ready = acceptor.wait_line("ready")
        with socket.create_connection(("127.0.0.1", ready["ports"]["80"]), timeout=10) as sock:
            gateway_args = (
                f"--acceptor-uid={os.getuid()}",
                f"--socket={path}",
                f"--trust={tmp_path}",
            )
            with program("runner.inside.gateway", *gateway_args) as gateway:
                gateway.send("policy", policy())
                sock.sendall(get(ALLOWED))
                assert b" 403 " in read_all(sock)


def test_a_dead_gateway_means_closed_connections(answering: tuple[Run, Origin]) -> None:
    run, _ = answering
    run.gateway.proc.kill()
    run.gateway.proc.wait()
    with run.connect(ALLOWED, 443) as sock:
        assert read_all(sock) == b""
    assert run.acceptor.proc.poll() is None


def test_many_clients_at_once_are_kept_apart(echoing: tuple[Run, Origin]) -> None:
    run, _ = echoing
    wrong: list[int] = []

    def one(number: int) -> None:
        first = client_hello(ALLOWED) + b"%d" % number * 50_000
        with run.connect(ALLOWED, 443) as sock:
            threading.Thread(target=sock.sendall, args=(first,), daemon=True).start()
            got = b""
            while len(got) < len(first):
                got += more(sock)
            if got != first:
                wrong.append(number)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
