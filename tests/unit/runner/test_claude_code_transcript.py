"""The fold over what Claude Code really said in a run: `samples/acp/claude-code.jsonl`, a container's transcript, shortened."""

import json
from pathlib import Path

import pytest

from runner.agents.catalogue import CATALOGUE
from runner.protocol import (
    CheckResult,
    Event,
    Finished,
    Phase,
    Plan,
    RepoSettings,
    Said,
    StepStatus,
    ToolCall,
    Usage,
)
from runner.sandbox import Line
from runner.session import Session
from tests.support.agent_container import BASE, HEAD, a_launch

SAMPLE = Path(__file__).parents[2] / "samples/acp/claude-code.jsonl"
CHECK = "grep -q hello greet.py"


@pytest.fixture
def lines() -> list[Line]:
    return [Line.model_validate_json(line) for line in SAMPLE.read_text().splitlines()]


@pytest.fixture
def session() -> Session:
    return Session(
        launch=a_launch(agents=("claude-code",)),
        settings=RepoSettings(verify=(CHECK,)),
        agent=CATALOGUE["claude-code"],
        base_commit=BASE,
    )


def told(session: Session, lines: list[Line]) -> list[Event]:
    return [record.event for line in lines for record in session.feed(line)]


def test_what_was_sent_in_the_run_is_what_we_would_send(
    session: Session, lines: list[Line]
) -> None:
    for line in lines:
        if line.kind == "received":
            key = str((line.model_extra or {})["key"])
            assert key in {outgoing.key for outgoing in session.pending()}
        session.feed(line)
    assert session.pending() == []


def test_the_run_ends_with_the_commit_after_one_repair(session: Session, lines: list[Line]) -> None:
    events = told(session, lines)
    assert session.verdict == Finished(
        outcome="done",
        changed=True,
        head=HEAD,
        summary="Now it is.",
        checks=(CheckResult(command=CHECK, passed=True),),
    )
    phases = [(e.name, e.status) for e in events if isinstance(e, Phase)]
    assert phases.index(("verify", StepStatus.FAILED)) < phases.index(("repair", StepStatus.DONE))


def test_plan_tools_words_and_cost_are_understood(session: Session, lines: list[Line]) -> None:
    events = told(session, lines)
    plans = [[(e.title, e.status) for e in plan.entries] for plan in events if isinstance(plan, Plan)]  # fmt: skip
    assert plans[0] == [("Mend the greeting", StepStatus.PENDING)]
    assert plans[-1] == [("Mend the greeting", StepStatus.DONE)]
    done = [e for e in events if isinstance(e, ToolCall) and e.status is StepStatus.DONE]
    assert [e.title for e in done] == ["env", "Read greet.py", "Edit greet.py", "Edit greet.py"]
    assert "held-by-the-gateway" in done[0].output
    said = [e.text for e in events if isinstance(e, Said)]
    assert said == ["I will plan, and look.", "The greeting is mended.", "Now it is."]
    used = [e for e in events if isinstance(e, Usage)]
    assert (used[-1].input_tokens, used[-1].output_tokens) == (9000, 180)
    costs = [e.cost_usd for e in used if e.cost_usd]
    assert costs == sorted(costs)
    assert costs[-1] > costs[0] > 0


def test_the_sample_holds_one_json_object_a_line() -> None:
    numbers = [json.loads(line)["n"] for line in SAMPLE.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
