"""Bytes into a real gateway: canaries on the host decide, and each attempt is on record."""

import contextlib
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.addresses import refused_address
from policies.pricelist import prices_for
from tests.adversarial import heads, ways
from tests.adversarial.canaries import (
    DnsCanary,
    Hit,
    HttpCanary,
    Secret,
    certificates,
    dns_canary,
    http_canary,
)
from tests.adversarial.raw import (
    ADDRESSES,
    ALLOWED,
    LIMITED,
    READING,
    SPLICED,
    UPSTREAM,
    RawCase,
    Try,
)
from tests.contract.inside.origins import trusting
from tests.contract.inside.programs import Record, program
from tests.contract.inside.run import PUBLIC, Run, policy, rule
from tests.support.ports import free_port

pytestmark = [pytest.mark.timeout(120)]

DENIALS_AT_ONCE = 35
"""The record counts more than fifty different ones in ten seconds, and does not tell them one by one."""
SECONDS = 15
UNASSIGNED = "127.99.0.1"
OFFERS = b'HTTP/1.1 200 OK\r\nalt-svc: h3=":443"\r\ncontent-length: 2\r\n\r\nok'
REDIRECT = (
    b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n"
)
NAMES = {
    **{host: [[PUBLIC]] for host in (ALLOWED, READING, LIMITED, SPLICED)},
    UPSTREAM: [["11.0.0.9"]],
    **{ways.named_4(address): [[address]] for address in ways.NOT_PUBLIC},
    f"mixed.{ADDRESSES}": [[PUBLIC, "127.0.0.1"]],
    f"turning.{ADDRESSES}": [[PUBLIC], ["127.0.0.1"]],
    f"alias.{ADDRESSES}": [["10.9.8.7"]],
    f"small.{ADDRESSES}": [[PUBLIC]],
}  # fmt: skip
ASKED = set(NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    run: Run
    where: Path
    http: HttpCanary
    dns: DnsCanary
    secret: Secret


def answering(secret: Secret) -> Callable[[Hit], bytes]:
    def answer(hit: Hit) -> bytes:
        path = hit.head.split(b" ")[1]
        if path == b"/redirect":
            return REDIRECT
        if path == b"/offers":
            return OFFERS
        # Only who sent the secret could get it back.
        body = b"you sent " + (secret.value.encode() * hit.head.count(secret.value.encode()))
        headers = b"set-cookie: session=1\r\nwww-authenticate: Basic\r\nauthentication-info: x\r\n"
        return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (headers, len(body), body)

    return answer


def rules(secret: Secret) -> Record:
    upstream = {"upstream": f"https://{UPSTREAM}", "private": False, "secret": secret.value, "header": "x-api-key", "scheme": "", "user": ""}  # fmt: skip
    requests = [{"methods": ["GET"], "paths": ["/ok", "/sets-cookies"]}]
    models = {"dialect": "anthropic", "models": ["claude-*"], "allow": [], "prices": prices_for("anthropic", ())}  # fmt: skip
    return policy(
        ALLOWED,
        rule(READING, methods=["GET", "HEAD"]),
        rule(LIMITED, paths=["/simple/*"]),
        rule(SPLICED, mode="splice", ports=["https:443"]),
        rule(f"*.{ADDRESSES}", upload=20_000),
        connections=[
            {"kind": "http", "name": "canary", "requests": requests, **upstream},
            {"kind": "llm", "name": "anthropic", **models, **upstream},
        ],
        budget={"limit_usd": 5, "spent_usd": 0},
    )


@contextmanager
def arena(where: Path) -> Iterator[Arena]:
    where.mkdir()
    secured, secret, socket_path = certificates(where), Secret(), where / "gw.sock"
    for name in ("quarantine", "trust"):
        (where / name).mkdir()
    with (
        http_canary(secured=secured, answer=answering(secret)) as http,
        dns_canary(NAMES) as dns,
        program(
            "tests.adversarial.gateway_with_canaries",
            str(dns.port),
            str(http.port),
            f"--acceptor-uid={os.getuid()}",
            f"--socket={socket_path}",
            f"--state={where / 'quarantine'}",
            f"--trust={where / 'trust'}",
            env={"SSL_CERT_FILE": str(secured.bundle)},
        ) as gateway,
        program(
            "runner.inside.acceptor",
            "--unchecked",
            f"--dns-port={free_port()}",
            f"--gateway={socket_path}",
            "0=80",
            "0=443",
        ) as acceptor,
    ):
        gateway.send("policy", rules(secret))
        gateway.wait_line("ready")
        ready = acceptor.wait_line("ready")
        ports = {int(tell): listen for tell, listen in ready["ports"].items()}
        run = Run(acceptor=acceptor, gateway=gateway, dns=ready["dns"], ports=ports)
        yield Arena(run=run, where=where, http=http, dns=dns, secret=secret)


def groups() -> Iterator[list[RawCase]]:
    """As many in one gateway as its record tells one by one."""
    group: list[RawCase] = []
    for case in (*heads.CASES, *ways.CASES):
        if group and sum(len(found.tries) for found in [*group, case]) > DENIALS_AT_ONCE:
            yield group
            group = []
        group.append(case)
    yield group


@pytest.mark.parametrize("group", list(groups()), ids=lambda g: f"{g[0].id}-{g[-1].id}")
@pytest.mark.allow_hosts(["127.0.0.1", UNASSIGNED, *(f"127.64.0.{n}" for n in range(1, 60))])
def test_attack(group: Sequence[RawCase], tmp_path: Path) -> None:
    problems = {}
    with arena(tmp_path / "run") as place:
        for case in group:
            for number, attempt in enumerate(case.tries, start=1):
                if found := problem(place, case, attempt):
                    problems[f"{case.id}, attempt {number}"] = found
        record = place.run.gateway.lines
    assert problems == {}
    assert all(refused_address(address) is None for address in place.http.dialled)
    assert set(place.dns.asked) <= ASKED
    assert place.secret.value not in json.dumps(record)
    # What is denied again is counted; at the end nothing may be missing.
    denials = sum(line["count"] for line in record if line.get("verdict") == "deny" and "count" in line)  # fmt: skip
    assert denials >= sum(a.verdict == "deny" for case in group for a in case.tries)


def problem(place: Arena, case: RawCase, attempt: Try) -> str:
    """What is not as it must be; empty if all is."""
    before = len(place.http.hits)
    answer = attacked(place, attempt)
    arrived = [hit.head.split(b"\r\n")[0] for hit in place.http.hits[before:]]
    if not answered(answer, attempt.status):
        return f"answered {answer[:200]!r}"
    if attempt.lacks and attempt.lacks in answer.lower():
        return f"the answer holds {attempt.lacks!r}"
    if arrived != list(attempt.arrives):
        return f"the canary got {arrived}"
    if any(b"mine" in hit.head for hit in place.http.hits[before:]):
        return "the client's own credential arrived"
    if place.secret.value.encode() in answer:
        return "the canary's secret came back"
    return on_record(place, attempt, case.record if attempt.record is None else attempt.record)


def answered(answer: bytes, status: int) -> bool:
    if status == 0:  # an end without a word, an alert, or any refusal
        return answer[:5] != b"HTTP/" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
    if status < 0:
        return answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 415"))
    return answer.startswith(f"HTTP/1.1 {status} ".encode())


def attacked(place: Arena, attempt: Try) -> bytes:
    """What came back until the end."""
    run = place.run
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        if attempt.host:
            sock = stack.enter_context(run.connect(attempt.host, attempt.port))
        else:
            sock = stack.enter_context(run.connect_to(UNASSIGNED, attempt.port))
        sock.settimeout(SECONDS)
        if attempt.tls:
            context = trusting(place.where)
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=attempt.host))
        with contextlib.suppress(OSError):  # refused before all is sent
            sock.sendall(attempt.send)
        return received(sock)
    return b""


def received(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while more := sock.recv(65536):
            data += more
    return data


def on_record(place: Arena, attempt: Try, reason: str) -> str:
    """Lines are written before what they tell of is answered, so they need hardly any waiting."""
    gateway = place.run.gateway
    host = (attempt.logged or attempt.host).lower()

    def found() -> bool:
        lines = gateway.kinds("decision", verdict=attempt.verdict, host=host)
        return any(reason in line["reason"] for line in (*lines, *gateway.kinds("brokered")))

    try:
        gateway.wait(found)
    except AssertionError:
        lines = gateway.kinds("decision", verdict=attempt.verdict, host=host)
        return f"not on record: {[line['reason'] for line in lines]}"
    return ""
