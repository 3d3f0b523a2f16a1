"""Attacks with time and numbers, on a real gateway."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.addresses import refused_address
from tests.adversarial import patience
from tests.adversarial.canaries import insecure
from tests.adversarial.case import Case
from tests.adversarial.raw import ADDRESSES, ALLOWED, OUTSIDE, SPLICED, ask
from tests.adversarial.test_raw import Arena, arena, received
from tests.contract.inside.programs import program
from tests.contract.inside.run import ALERT, policy
from tests.support.hellos import client_hello, in_records

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.allow_hosts(["127.0.0.1", *(f"127.64.0.{n}" for n in range(1, 9))]),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Arena]:
    with arena(tmp_path / "run") as found:
        yield found


def denied(place: Arena, host: str, case: Case) -> None:
    gateway = place.run.gateway
    gateway.wait(
        lambda: [
            line
            for line in gateway.kinds("decision", verdict="deny", host=host)
            if case.record in line["reason"]
        ]
    )


def served(place: Arena) -> None:
    with place.run.connect(ALLOWED, 80) as sock:
        sock.settimeout(30)
        sock.sendall(ask())
        assert received(sock).startswith(b"HTTP/1.1 200")


def test_a_head_that_drips_is_ended(place: Arena) -> None:
    """32a."""
    pause = threading.Event()
    with place.run.connect(ALLOWED, 80) as sock:
        sock.settimeout(1)
        answer = b""
        for byte in ask("X: " + "y" * 60):
            with contextlib.suppress(OSError):
                sock.sendall(bytes([byte]))
            pause.wait(0.5)
            with contextlib.suppress(TimeoutError):
                sock.settimeout(0.01)
                answer += sock.recv(65536)
            if answer:
                break
    assert answer.startswith(b"HTTP/1.1 408")
    denied(place, ALLOWED, patience.SLOW)
    assert place.http.dialled == []


def test_silence_of_many_holds_up_nobody_for_long(place: Arena) -> None:
    """32b."""
    with contextlib.ExitStack() as stack:
        for number in range(70):
            sock = stack.enter_context(place.run.connect(ALLOWED, 443))
            if number % 2:
                sock.sendall(client_hello(ALLOWED)[:100])
        served(place)
        denied(place, ALLOWED, patience.SILENT)


def test_a_name_that_flips_leads_nowhere_private(place: Arena) -> None:
    """16."""
    host = f"turning.{ADDRESSES}"
    answers: list[bytes] = []

    def attack() -> None:
        with contextlib.suppress(OSError), place.run.connect(host, 80) as sock:
            sock.sendall(ask(host=host))
            answers.append(received(sock)[:12])

    threads = [threading.Thread(target=attack) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {b"HTTP/1.1 200", b"HTTP/1.1 403"}
    assert b"HTTP/1.1 403" in answers
    assert all(refused_address(address) is None for address in place.http.dialled)
    denied(place, host, patience.FLIPPING)


def test_what_is_sent_without_an_end_ends_at_the_limit(place: Arena) -> None:
    """32c."""
    host = f"small.{ADDRESSES}"
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with place.run.connect(host, 80) as sock, contextlib.suppress(OSError):
        sock.sendall(head)
        for _ in range(1000):
            sock.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
    place.run.gateway.wait_line("decision", verdict="deny", host=host)
    denied(place, host, patience.BIG)
    assert place.http.hits == []
    closed = place.run.gateway.wait_line("closed", host=host)
    assert closed["sent"] <= 20_000


def test_a_hello_is_understood_however_it_is_cut(place: Arena) -> None:
    """22b."""
    for data in (in_records(client_hello(OUTSIDE), 1), in_records(client_hello(OUTSIDE), 700)):
        with place.run.connect(SPLICED, 443) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(data), 50):
                sock.sendall(data[at : at + 50])
            assert received(sock) == ALERT
    denied(place, SPLICED, patience.SPLIT)
    with place.run.connect(SPLICED, 443) as sock, contextlib.suppress(OSError):
        sock.sendall(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(60_000))
        assert received(sock) in {ALERT, b""}
    assert place.http.dialled == []


def test_a_client_gets_the_one_protocol_or_none(place: Arena) -> None:
    """x19."""
    strict = ssl.create_default_context()
    with place.run.connect(ALLOWED, 443) as sock, pytest.raises(ssl.SSLError):
        strict.wrap_socket(sock, server_hostname=ALLOWED)
    place.run.gateway.wait_line("decision", verdict="deny", host=ALLOWED)
    denied(place, ALLOWED, patience.CLIENTS)
    both = insecure()
    both.set_alpn_protocols(["h2", "http/1.1"])
    with (
        place.run.connect(ALLOWED, 443) as sock,
        both.wrap_socket(sock, server_hostname=ALLOWED) as tls,
    ):
        assert tls.selected_alpn_protocol() == "http/1.1"
        tls.sendall(ask())
        assert received(tls).startswith(b"HTTP/1.1 200")


def test_a_later_policy_with_an_error_changes_nothing(place: Arena) -> None:
    """33c."""
    place.run.gateway.send("policy:2", policy({"host": "*"}))
    place.run.gateway.wait_line("received", key="policy:2")
    served(place)
    said = place.run.gateway.wait_line("remark")["text"]
    assert patience.RELOAD.record in said


@pytest.mark.parametrize(
    ("rules", "listens"),
    [(None, False), ({"do": "policy"}, False), (policy({"host": 1}), False), (policy(), True)],
)
def test_without_a_policy_nothing_listens(
    tmp_path: Path, rules: dict[str, object] | None, *, listens: bool
) -> None:
    """33b."""
    path = tmp_path / "gw.sock"
    for name in ("quarantine", "trust"):
        (tmp_path / name).mkdir()
    places = (f"--state={tmp_path / 'quarantine'}", f"--trust={tmp_path / 'trust'}")
    with program("runner.inside.gateway", f"--socket={path}", *places) as gateway:
        if rules is None:
            gateway.send("note", {"do": "note"})
            gateway.wait_line("received")
        else:
            gateway.send("policy", rules)
            gateway.wait_line("ready" if listens else "fatal")
        assert path.exists() == listens
