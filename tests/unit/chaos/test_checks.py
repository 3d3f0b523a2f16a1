"""Each check finds what it is there for, and nothing where all is well."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from bot.states import MAX_ATTEMPTS, TaskState
from bot.store.audit import AuditReport
from tests.chaos import checks
from tests.chaos.faults import on_their_last
from tests.chaos.remains import Arrived, Container, Remains
from tests.support.builders import NOW, a_task, after
from tests.support.linear import sessions
from tests.support.linear.entities import Session
from tests.support.linear.world import World
from tests.support.store import a_message, a_run

RUN = "01task:1"
HELD = {"01task": "here:1"}
ENDED = a_task(state=TaskState.SUCCEEDED)
ROW = a_run("01task", queued_at=NOW, started_at=NOW, ended_at=after(9), outcome="done")
WHOLE = AuditReport(rows=4, broken_at=None, reason="")


def left(**changes: Any) -> Remains:
    values: dict[str, Any] = {
        "at": after(60), "tasks": [ENDED], "runs": [ROW], "said": [a_message(state="sent")],
        "arrived": [Arrived(id=1, source="slack", state="done")], "ends": Counter({RUN: 1}),
        "record": WHOLE,
    }  # fmt: skip
    return Remains(**values | changes)


def found(*, starts: dict[str, int] | None = None, **changes: Any) -> list[str]:
    return checks.all_of(left(**changes), starts=starts or {RUN: 1}, lost=())


def test_nothing_is_found_where_all_is_well() -> None:
    assert found() == []


def test_a_lease_of_what_has_ended_is_found() -> None:
    assert found(leases=HELD, hosts={"here"}) == [
        "lease: here:1 holds 01task, which is not at work"
    ]


def test_a_lease_whose_host_does_not_live_is_found() -> None:
    at_work = [a_task(state=TaskState.RUNNING)]
    dead = list(checks.leases(HELD, hosts=(), rows=at_work))
    assert dead == ["lease: here:1 holds 01task, and that host does not live"]
    assert not list(checks.leases(HELD, hosts={"here"}, rows=at_work))


def test_what_a_host_has_not_cleaned_up_is_found() -> None:
    assert found(claims={"here": [RUN]}) == [f"claim: here has not cleaned up {RUN}"]


def test_a_start_without_a_row_is_found() -> None:
    assert found(starts={RUN: 1, "01task:2": 1}) == [
        "run: 01task:2 was started, and there is no row of it"
    ]


def test_a_row_without_a_start_is_found() -> None:
    assert list(checks.runs([ROW], starts={}, lost=())) == [
        f"run: {RUN} began, and no container was started"
    ]


def test_a_start_that_never_began_is_found_unless_its_daemon_took_it_along() -> None:
    row = a_run("01task", ended_at=NOW, outcome="failed", reason="gone")
    assert list(checks.runs([row], starts={RUN: 1}, lost=())) == [
        f"run: {RUN} was started, and has not begun (failed: gone)"
    ]
    assert not list(checks.runs([row], starts={RUN: 1}, lost={RUN}))


def test_a_run_that_has_not_ended_or_ended_twice_is_found() -> None:
    assert found(runs=[a_run("01task", started_at=NOW)]) == [f"end: {RUN} has not ended"]
    assert found(ends=Counter({RUN: 2})) == [f"end: {RUN} ended 2 times"]


@pytest.mark.parametrize("state", ["new", "raw", "dead"])
def test_a_delivery_that_nobody_has_dealt_with_is_found(state: str) -> None:
    one = Arrived(id=7, source="slack", state=state, error="why")
    assert found(arrived=[one]) == [f"inbox: 7 of slack is {state}: why"]
    assert not found(arrived=[Arrived(id=7, source="slack", state="ignored")])


def test_a_message_whose_sender_vanished_is_found() -> None:
    row = a_message(state="sending", claim_until=after(1))
    assert found(said=[row]) == [
        f"outbox: {row.id} of {row.task} is sending, past the end of its claim"
    ]


@pytest.mark.parametrize("state", ["pending", "sending", "dead"])
def test_a_message_that_was_not_sent_is_found(state: str) -> None:
    row = a_message(state=state, claim_until=after(600), error="why")
    assert found(said=[row]) == [f"outbox: {row.id} of {row.task} is {state}: why"]


@pytest.mark.parametrize(("task", "whose"), [("01task", "of 01task"), ("01other", "of no task")])
def test_a_container_that_is_left_is_found(task: str, whose: str) -> None:
    one = Container(id="abc", task=task, role="agent")
    assert found(containers=[one]) == [f"container: abc is left, agent {whose}"]


def test_a_container_that_was_no_task_s_is_found() -> None:
    assert "container: one was started for 01other:1, which is no task's" in found(
        starts={RUN: 1, "01other:1": 1}
    )


def test_a_broken_record_is_found() -> None:
    broken = AuditReport(rows=3, broken_at=4, reason="row 4 is missing")
    assert found(record=broken) == ["audit: broken at row 4: row 4 is missing"]


def in_linear(*said: dict[str, str]) -> Session:
    world = World()
    session = sessions.begin(world, world.issue("Note 1"), creator=world.dana)
    for content in said:
        sessions.act(world, session, {"content": content}, by=world.app)
    return session


def test_what_was_said_twice_in_a_session_is_found() -> None:
    thought = {"type": "thought", "body": "I have this."}
    action = {"type": "action", "action": "Run", "parameter": "ls"}
    other = action | {"parameter": "pwd"}
    assert not list(checks.linear([in_linear(thought, action, other), in_linear(thought)]))
    assert list(checks.linear([in_linear(thought, thought, action, other)])) == [
        "linear: ENG-1: 2 times thought I have this."
    ]
    assert list(checks.linear([in_linear(action, action | {"result": "1 of 2 steps done"})])) == [
        "linear: ENG-1: 2 times action Run ls"
    ]


def test_what_was_never_killed_is_found() -> None:
    assert list(checks.kills(["dockerd"])) == ["kill: dockerd was never killed"]


@pytest.mark.parametrize(
    ("changes", "seconds", "taken"),
    [
        ({}, 5, {RUN}),
        ({"ended_at": None}, 5, {RUN}),
        ({"outcome": "done"}, 5, set()),  # it had ended when the daemon went
        ({}, -20, set()),  # before it was queued
        ({}, 20, set()),  # after its end
    ],
)
def test_a_daemon_takes_along_what_failed_while_it_was_away(
    changes: dict[str, Any], seconds: float, taken: set[str]
) -> None:
    row = ROW.model_copy(update={"outcome": "failed"} | changes)
    away = [(after(seconds), after(seconds) + timedelta(seconds=3))]
    assert checks.taken_along([row], there={RUN}, away=away) == taken
    assert not checks.taken_along([row], there=(), away=away)


def test_a_daemon_is_spared_while_a_task_would_fail_of_it() -> None:
    last = a_task(attempts=MAX_ATTEMPTS)
    assert on_their_last([last, a_task(attempts=MAX_ATTEMPTS - 1)]) == [last.id]
