"""http://broker.internal, as a program in the agent's container meets it."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.inside.broker import BODY_BYTES
from tests.contract.inside.run import Run, policy, read_all, running

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.0/10"])

ASK = {"tool": "gh", "argv": ["pr", "view", "7"]}
RULES = policy(broker=["gh"])


def post(
    run: Run, body: bytes, *, path: str = "/run", length: int | None = None
) -> tuple[int, str]:
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: broker.internal\r\nContent-Length: {size}\r\n\r\n"
    with run.connect("broker.internal", 80) as sock:
        sock.sendall(head.encode() + body)
        answer = read_all(sock)
    first, _, said = answer.partition(b"\r\n\r\n")
    return int(first.split()[1]), said.decode()


def test_a_question_leaves_with_the_transcript_and_the_answer_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, rules=RULES) as run, run.connect("broker.internal", 80) as sock:
        body = json.dumps(ASK).encode()
        head = f"POST /run HTTP/1.1\r\nHost: broker.internal\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        asked = run.gateway.wait_line("ask")
        assert {name: asked[name] for name in ASK} == ASK
        answer = {"do": "answer", "id": asked["id"], "verdict": "allow", "reason": "", "status": 3}
        run.gateway.send("answer:1", {**answer, "stdout": "out\n", "stderr": "err\n"})
        said = read_all(sock).partition(b"\r\n\r\n")[2]
        assert json.loads(said) == {"status": 3, "stdout": "out\n", "stderr": "err\n"}
        told = run.gateway.wait_line("brokered")
        assert (told["tool"], told["argv"], told["verdict"]) == ("gh", ASK["argv"], "allow")


def test_a_tool_that_policy_does_not_broker_is_refused_and_told(tmp_path: Path) -> None:
    with running(tmp_path, rules=policy()) as run:
        status, said = post(run, json.dumps(ASK).encode())
        assert (status, "no broker for gh" in said) == (403, True)
        assert run.gateway.wait_line("brokered")["verdict"] == "deny"
        assert run.gateway.kinds("ask") == []


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"x",
        b"[]",
        b'{"tool": 1, "argv": []}',
        b'{"tool": "gh"}',
        b'{"tool": "gh", "argv": [1]}',
        b"[" * 9999,
    ],
)
def test_what_is_no_question_is_refused(tmp_path: Path, question: bytes) -> None:
    with running(tmp_path, rules=RULES) as run:
        assert post(run, question)[0] == 400
        assert run.gateway.kinds("ask") == []


def test_another_path_is_nothing_and_a_long_question_is_not_read(tmp_path: Path) -> None:
    with running(tmp_path, rules=RULES) as run:
        assert post(run, b"{}", path="/other")[0] == 404
        assert post(run, b"", length=BODY_BYTES + 1)[0] == 400


def test_an_answer_that_nobody_waits_for_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path, rules=RULES) as run:
        fields: dict[str, Any] = {"do": "answer", "id": 9, "status": 0}
        run.gateway.send("answer:9", fields)
        run.gateway.wait_line("received", key="answer:9")
        assert post(run, b"{}")[0] == 400
