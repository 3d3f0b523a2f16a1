"""What calls of a model cost, told by the gateway before the agent can act on the answer; and the end of the budget."""

import gzip
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from runner.inside.connections import CALLS
from tests.contract.inside.run import Origin, Run, more, origin, policy, read_all, request
from tests.contract.inside.test_gateway_models import (
    HOST,
    MESSAGE,
    SECRET,
    connection,
    post,
    read_request,
    run_with,
    serve,
)
from tests.unit.inside.test_meter import CHAT, GEMINI, MESSAGES

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1", "127.64.0.2", "127.99.0.1"])

EVENTS = "content-type: text/event-stream; charset=utf-8"
ANSWER = json.dumps({"type": "message", "usage": {"input_tokens": 1000, "output_tokens": 100}})
COST = (100 * 4 + 20 * 20 + 2000 * 0.2 + 200 * 5 + 100 * 8) / 1_000_000
"""Of MESSAGES, by Opus 5.5."""
MODEL = b'{"model": "claude-opus-5-5", "messages": []}'


def usage(run: Run) -> list[dict[str, Any]]:
    return run.gateway.kinds("usage")


def test_a_stream_is_counted_and_told_in_totals(tmp_path: Path) -> None:
    with origin(serve(EVENTS, body=MESSAGES)) as server, run_with(tmp_path, server) as run:
        for _ in range(2):
            server.got = b""
            assert request(run, post(MODEL), host=HOST).endswith(MESSAGES)
        run.gateway.wait_line("usage", calls=2)
        first, second = usage(run)
    assert (first["connection"], first["model"]) == ("anthropic", "claude-opus-5-5")
    assert (first["input"], first["output"], first["cache_read"]) == (100, 20, 2000)
    assert first["cost_usd"] == first["counted_usd"] == pytest.approx(COST, abs=1e-6)
    assert second["cost_usd"] == pytest.approx(2 * COST, abs=2e-6)


def test_it_is_told_before_the_last_of_the_answer_arrives(tmp_path: Path) -> None:
    go_on = threading.Event()
    cut = MESSAGES.index(b"event: message_stop")

    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode() + MESSAGES[:cut])
        go_on.wait(10)
        conn.sendall(MESSAGES[cut:])

    with origin(talk) as server, run_with(tmp_path, server) as run, run.connect(HOST, 80) as sock:
        sock.sendall(post(MODEL))
        run.gateway.wait_line("usage")
        go_on.set()
        read_all(sock)
        run.gateway.wait_line("closed")
        assert len(usage(run)) == 1


def test_an_answer_in_one_piece_is_counted(tmp_path: Path) -> None:
    with origin(serve(body=ANSWER.encode())) as server, run_with(tmp_path, server) as run:
        assert request(run, post(MODEL), host=HOST).endswith(ANSWER.encode())
        [told] = [run.gateway.wait_line("usage")]
    assert (told["input"], told["output"]) == (1000, 100)


def test_counting_tokens_and_listing_models_costs_nothing(tmp_path: Path) -> None:
    with origin(serve(body=ANSWER.encode())) as server, run_with(tmp_path, server) as run:
        assert b"200" in request(run, post(MODEL, target="/v1/messages/count_tokens"), host=HOST)
        run.gateway.wait_line("closed")
        assert usage(run) == []


def test_an_error_of_the_provider_costs_nothing(tmp_path: Path) -> None:
    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(b"HTTP/1.1 529 Overloaded\r\ncontent-length: 2\r\n\r\n{}")

    with origin(talk) as server, run_with(tmp_path, server) as run:
        assert request(run, post(MODEL), host=HOST).endswith(b"{}")
        run.gateway.wait_line("closed")
        assert usage(run) == []


def test_a_client_that_hangs_up_is_counted_by_what_came(tmp_path: Path) -> None:
    go_on = threading.Event()
    begun = MESSAGES[: MESSAGES.index(b"event: ping")]

    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode() + begun)
        go_on.wait(10)
        for _ in range(100):
            conn.sendall(b": keep alive\n\n" * 1000)

    with origin(talk) as server, run_with(tmp_path, server) as run:
        with run.connect(HOST, 80) as sock:
            sock.sendall(post(MODEL))
            got = b""
            while not got.endswith(begun[-20:]):
                got += more(sock)
        go_on.set()
        told = run.gateway.wait_line("usage")
    assert (told["input"], told["output"]) == (100, 4)


def test_at_the_budget_calls_are_refused_in_the_words_of_the_provider(tmp_path: Path) -> None:
    with (
        origin(serve(EVENTS, body=MESSAGES)) as server,
        run_with(tmp_path, server, budget=0.002) as run,
    ):
        request(run, post(MODEL), host=HOST)
        run.gateway.wait_line("usage")
        refused = request(run, post(MODEL), host=HOST)
        again = request(run, post(MODEL), host=HOST)
        assert server.connections == 1
        counted = request(run, post(MODEL, target="/v1/messages/count_tokens"), host=HOST)
    assert refused.startswith(b"HTTP/1.1 403")
    error = json.loads(refused.partition(b"\r\n\r\n")[2])
    assert error["error"]["type"] == "permission_error"
    assert "the budget of $0.00 for this task is used up" in error["error"]["message"]
    assert again.startswith(b"HTTP/1.1 403")
    assert counted.startswith(b"HTTP/1.1 200")
    [said] = run.gateway.kinds("budget")
    assert said["limit_usd"] == 0.002
    assert len(run.gateway.kinds("decision", verdict="deny")) == 2


def test_more_budget_lets_them_through_again_and_totals_stay(tmp_path: Path) -> None:
    with (
        origin(serve(EVENTS, body=MESSAGES)) as server,
        run_with(tmp_path, server, budget=0.002) as run,
    ):
        request(run, post(MODEL), host=HOST)
        assert request(run, post(MODEL), host=HOST).startswith(b"HTTP/1.1 403")
        more = {"limit_usd": 5, "spent_usd": 0}
        run.gateway.send("more", policy(connections=[connection()], budget=more))
        run.gateway.wait_line("received", key="more")
        server.got = b""
        assert request(run, post(MODEL), host=HOST).startswith(b"HTTP/1.1 200")
        assert run.gateway.wait_line("usage", calls=2)["input"] == 200


def test_a_run_has_so_many_requests_under_way_and_no_more(tmp_path: Path) -> None:
    go_on = threading.Event()

    def talk(_server: Origin, conn: socket.socket) -> None:
        got = b""
        while not got.endswith(MESSAGE):
            got += more(conn)
        go_on.wait(10)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    with origin(talk) as server, run_with(tmp_path, server) as run:
        socks = [run.connect(HOST, 80) for _ in range(CALLS + 1)]
        for sock in socks:
            sock.sendall(post())
        run.gateway.wait(lambda: len(run.gateway.kinds("decision")) == CALLS)
        assert server.connections <= CALLS
        go_on.set()
        answers = [read_all(sock) for sock in socks]
        for sock in socks:
            sock.close()
    assert len([a for a in answers if a.endswith(b"ok")]) == CALLS + 1


def test_chunks_are_counted_and_passed_on_as_chunks(tmp_path: Path) -> None:
    chunks = [MESSAGES[i : i + 7] for i in range(0, len(MESSAGES), 7)]
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\nx: y\r\n\r\n"

    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        head = f"HTTP/1.1 200 OK\r\n{EVENTS}\r\ntransfer-encoding: chunked\r\n\r\n"
        conn.sendall(head.encode() + framed)

    with origin(talk) as server, run_with(tmp_path, server) as run:
        head, _, body = request(run, post(MODEL), host=HOST).partition(b"\r\n\r\n")
        assert run.gateway.wait_line("usage")["output"] == 20
    assert b"transfer-encoding: chunked" in head
    assert body.endswith(b"0\r\n\r\n")
    assert dechunked(body) == MESSAGES


def dechunked(body: bytes) -> bytes:
    data = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        data, body = data + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return data


@pytest.mark.parametrize("chunked", [False, True])
def test_a_secret_in_the_body_is_taken_out_wherever_it_is_cut(
    tmp_path: Path,
    chunked: bool,  # noqa: FBT001 - parametrised
) -> None:
    pieces = [
        b'{"debug": "',
        SECRET[:4].encode(),
        SECRET[4:].encode(),
        b'", "b64": "c2stcm',
        b'VhbC1jYW5hcnk="}',
    ]
    whole = b"".join(pieces)

    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        if chunked:
            conn.sendall(b"HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n")
            conn.sendall(b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n")
        else:
            conn.sendall(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n" % len(whole) + whole)

    with origin(talk) as server, run_with(tmp_path, server) as run:
        reply = request(run, post(), host=HOST)
    body = reply.partition(b"\r\n\r\n")[2]
    found = dechunked(body) if chunked else body
    assert found == b'{"debug": "%b", "b64": "%b"}' % (b"*" * len(SECRET), b"*" * 20)
    assert len(found) == len(whole)


def test_a_compressed_answer_is_not_passed_on(tmp_path: Path) -> None:
    packed = gzip.compress(SECRET.encode())
    talk = serve("content-encoding: gzip", body=packed)
    with origin(talk) as server, run_with(tmp_path, server) as run:
        reply = request(run, post(), host=HOST)
    assert reply.startswith(b"HTTP/1.1 502")
    assert packed not in reply


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 5\r\ncontent-length: 6", "content-length: 5\r\ntransfer-encoding: chunked", "content-length: x",
        "transfer-encoding: gzip, chunked",
    ],
)  # fmt: skip
def test_an_answer_that_could_end_in_two_places_is_not_passed_on(tmp_path: Path, head: str) -> None:
    def talk(server: Origin, conn: socket.socket) -> None:
        read_request(server, conn)
        conn.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello".encode())

    with origin(talk) as server, run_with(tmp_path, server) as run:
        assert request(run, post(), host=HOST).startswith(b"HTTP/1.1 502")


def test_openai_gets_its_key_as_a_bearer_token_and_is_counted(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "dialect": "openai",
        "header": "authorization",
        "scheme": "Bearer",
        "models": ["*"],
    }
    raw = post(
        b'{"model": "gpt-6-sol", "messages": [], "stream": true}',
        "Authorization: Bearer sk-client",
        target="/v1/chat/completions",
    )
    with origin(serve(EVENTS, body=CHAT)) as server, run_with(tmp_path, server, **changes) as run:
        assert request(run, raw, host=HOST).endswith(CHAT)
        told = run.gateway.wait_line("usage")
    assert f"authorization: Bearer {SECRET}\r\n".encode() in server.got
    assert b"sk-client" not in server.got
    assert (told["input"], told["output"], told["cache_read"]) == (100, 30, 20)


def test_google_gets_its_key_in_a_header_and_none_in_the_address(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "dialect": "google",
        "header": "x-goog-api-key",
        "models": ["gemini-*"],
    }
    target = "/v1beta/models/gemini-3.1-pro:streamGenerateContent?key=sk-client&alt=sse"
    raw = post(b'{"contents": []}', "X-Goog-Api-Key: sk-client", target=target)
    with origin(serve(EVENTS, body=GEMINI)) as server, run_with(tmp_path, server, **changes) as run:
        assert request(run, raw, host=HOST).endswith(GEMINI)
        told = run.gateway.wait_line("usage")
    first, *_ = server.got.split(b"\r\n")
    assert first == b"POST /v1beta/models/gemini-3.1-pro:streamGenerateContent?alt=sse HTTP/1.1"
    assert f"x-goog-api-key: {SECRET}\r\n".encode() in server.got
    assert b"sk-client" not in server.got
    assert (told["input"], told["output"], told["cache_read"]) == (100, 15, 20)


def test_models_may_be_listed(tmp_path: Path) -> None:
    raw = f"GET /v1/models?limit=10 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    def talk(server: Origin, conn: socket.socket) -> None:
        server.got += conn.recv(65536)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    with origin(talk) as server, run_with(tmp_path, server) as run:
        assert request(run, raw, host=HOST).endswith(b"{}")
    assert server.got.startswith(b"GET /v1/models?limit=10 HTTP/1.1\r\n")
    assert b"content-length" not in server.got
