"""The fold over the agent's transcript."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol import (
    CheckResult,
    CommandSeen,
    EventRecord,
    Finished,
    Phase,
    Plan,
    Question,
    QuestionClosed,
    Remark,
    RepoSettings,
    RunLimits,
    Said,
    ToolCall,
)
from runner.report import MOST_EVENTS
from runner.session import Session
from tests.support.agent_container import (
    BASE,
    HEAD,
    PLAIN,
    AgentContainer,
    Fold,
    a_launch,
    chunk,
    elicitation,
    update,
)

VERIFY = RepoSettings(setup=("npm ci",), verify=("npm run lint", "npm test"))


def verdict(fold: Fold) -> Finished:
    assert fold.session.verdict is not None
    return fold.session.verdict


def phases(fold: Fold) -> list[str]:
    return [f"{e.name} {e.status}" for e in fold.events() if isinstance(e, Phase)]


def test_a_run_goes_through_its_steps_in_order() -> None:
    fold = Fold(settings=VERIFY).run()
    assert phases(fold) == [
        "prepare running", "prepare done", "setup running", "setup done", "agent running", "agent done",
        "verify running", "verify done", "verify running", "verify done",
        "commit running", "commit done", "push running", "push done",
    ]  # fmt: skip
    assert verdict(fold) == Finished(
        outcome="done",
        changed=True,
        head=HEAD,
        summary="All done.",
        checks=(
            CheckResult(command="npm run lint", passed=True),
            CheckResult(command="npm test", passed=True),
        ),
    )


def test_without_a_change_nothing_is_verified_or_pushed() -> None:
    fold = Fold(container=AgentContainer(changed=False), settings=VERIFY).run()
    assert verdict(fold).outcome == "done"
    assert not verdict(fold).changed
    assert not any(p.startswith(("verify", "push")) for p in phases(fold))


def test_without_checks_an_unchanged_head_is_no_change() -> None:
    fold = Fold(container=AgentContainer(heads=[BASE])).run()
    assert verdict(fold) == Finished(outcome="done", summary="All done.")


def test_a_failed_setup_fails_the_run_with_its_tail() -> None:
    container = AgentContainer(statuses={"setup": [7]}, tails={"setup": "no such package"})
    fold = Fold(container=container, settings=VERIFY).run()
    assert verdict(fold).outcome == "failed"
    assert verdict(fold).tail == "no such package"
    assert "npm ci" in verdict(fold).reason
    assert not container.prompts


def test_a_failed_check_is_told_to_an_agent_that_can_repair() -> None:
    container = AgentContainer(statuses={"verify": [0, 1]}, tails={"verify": "1 test failed"})
    fold = Fold(container=container, settings=VERIFY).run()
    assert verdict(fold).changed
    assert len(container.prompts) == 2
    assert "npm test" in container.prompts[1]
    assert "1 test failed" in container.prompts[1]
    assert "repair running" in phases(fold)


def test_after_two_repairs_nothing_is_handed_in() -> None:
    container = AgentContainer(statuses={"verify": [1] * 9})
    fold = Fold(container=container, settings=RepoSettings(verify=("npm test",))).run()
    assert verdict(fold).outcome == "failed"
    assert verdict(fold).reason == "`npm test` fails after 2 repairs."
    assert len(container.prompts) == 3
    assert verdict(fold).checks == (CheckResult(command="npm test", passed=False),)


def test_an_agent_that_cannot_repair_is_not_asked_to() -> None:
    container = AgentContainer(statuses={"verify": [1]})
    fold = Fold(container=container, settings=RepoSettings(verify=("true",)), agent=PLAIN).run()
    assert verdict(fold).outcome == "failed"
    assert len(container.prompts) == 1


def test_a_refused_push_is_told_once() -> None:
    words = "remote: infra/ is protected\nremote: \n ! [remote rejected]"
    container = AgentContainer(statuses={"push": [1, 1]}, tails={"push": words})
    fold = Fold(container=container).run()
    assert verdict(fold).outcome == "failed"
    assert verdict(fold).reason == "The changes were refused: infra/ is protected"
    assert len(container.prompts) == 2
    assert "infra/ is protected" in container.prompts[1]


def test_a_push_that_passes_after_a_repair_is_done() -> None:
    container = AgentContainer(statuses={"push": [1]}, heads=["c" * 40, HEAD])
    fold = Fold(container=container).run()
    assert verdict(fold).changed
    assert verdict(fold).head == HEAD


def test_the_limit_of_turns_ends_repairs() -> None:
    container = AgentContainer(statuses={"verify": [1] * 9})
    fold = Fold(
        container=container,
        settings=RepoSettings(verify=("false",)),
        launch=a_launch(limits=RunLimits(turns=2)),
    ).run()
    assert verdict(fold).outcome == "failed"
    assert len(container.prompts) == 2


def test_steering_becomes_further_prompts_in_order() -> None:
    container = AgentContainer(hangs={"setup"})
    fold = Fold(container=container, settings=VERIFY).run()
    fold.command("c1", "steer", "also the docs")
    fold.command("c2", "steer", "and the changelog")
    fold.line("exit", key="setup:0", status=0, tail="")
    fold.run()
    assert container.prompts == ["fix it", "also the docs", "and the changelog"]
    seen = [e.command for e in fold.events() if isinstance(e, CommandSeen)]
    assert seen == ["c1", "c2"]
    assert verdict(fold).changed


def test_steering_that_comes_too_late_is_not_confirmed() -> None:
    fold = Fold(container=AgentContainer(hangs={"push"})).run()
    fold.command("late", "steer", "one more thing")
    fold.run()
    assert not [e for e in fold.events() if isinstance(e, CommandSeen)]


def stopped(**container: Any) -> Fold:
    """A run that is told to stop while the agent is at work."""
    fold = Fold(container=AgentContainer(hangs={"session/prompt"}, **container)).run()
    fold.command("c1", "stop")
    return fold.run()


def cancelled(fold: Fold) -> Fold:
    """The agent answers."""
    fold.line("agent", msg={"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "cancelled"}})
    return fold.run()


def sent(fold: Fold) -> list[str]:
    return [
        str((line.model_extra or {}).get("key")) for line in fold.lines if line.kind == "received"
    ]


def test_stop_cancels_the_turn_and_hands_in_what_there_is() -> None:
    fold = stopped()
    assert sent(fold)[-2:] == ["acp:cancel", "end_agent"]
    assert fold.session.verdict is None
    cancelled(fold)
    assert verdict(fold) == Finished(outcome="stopped", changed=True, head=HEAD)
    assert CommandSeen(command="c1") in fold.events()
    assert "probe" not in " ".join(sent(fold))


def test_a_stopped_agent_that_does_not_answer_is_killed_and_its_work_kept() -> None:
    fold = stopped()
    fold.line("agent_exit", status=137)
    assert verdict(fold.run()) == Finished(outcome="stopped", changed=True, head=HEAD)


def test_an_error_of_a_stopped_agent_is_its_end_and_no_more() -> None:
    fold = stopped()
    fold.line("agent", msg={"jsonrpc": "2.0", "id": 3, "error": {"code": -1, "message": "aborted"}})
    assert verdict(fold.run()).head == HEAD


def test_a_second_stop_does_not_wait_for_the_work() -> None:
    fold = stopped()
    fold.command("c2", "stop")
    assert verdict(fold.run()) == Finished(outcome="stopped")
    assert CommandSeen(command="c2") in fold.events()


def test_stop_breaks_off_a_check_and_keeps_what_was_to_be_checked() -> None:
    fold = Fold(container=AgentContainer(hangs={"verify"}), settings=VERIFY).run()
    fold.command("c1", "stop")
    fold.run()
    assert sent(fold)[-1] == "end_exec"
    fold.line("exit", key="verify:1:0", status=137, tail="")
    assert verdict(fold.run()).head == HEAD
    assert verdict(fold).checks == ()


@pytest.mark.parametrize("step", ["commit", "push"])
def test_stop_waits_for_what_hands_the_work_in(step: str) -> None:
    fold = Fold(container=AgentContainer(hangs={step})).run()
    fold.command("c1", "stop")
    fold.run()
    assert fold.session.verdict is None
    tail = f"head {HEAD}" if step == "commit" else ""
    fold.line("exit", key=f"{step}:1", status=0, tail=tail)
    assert verdict(fold.run()) == Finished(
        outcome="stopped", changed=True, head=HEAD, summary="All done."
    )


def test_where_nothing_was_done_nothing_is_kept() -> None:
    assert verdict(cancelled(stopped(changed=False))) == Finished(outcome="stopped")


@pytest.mark.parametrize(
    ("step", "tail", "reason"),
    [
        ("commit", "fatal: no space", "could not be committed"),
        ("push", "remote: .github/ci.yml is protected", ".github/ci.yml is protected"),
    ],
)
def test_what_can_not_be_kept_is_said_and_not_repaired(step: str, tail: str, reason: str) -> None:
    fold = cancelled(stopped(statuses={step: [1]}, tails={step: tail}))
    assert (verdict(fold).outcome, verdict(fold).changed) == ("stopped", False)
    assert reason in verdict(fold).reason


def asking() -> Fold:
    """The agent asks, and waits."""
    turn = [elicitation("Which?", ["a", "b"], free=True)]
    return Fold(container=AgentContainer(turn=turn, hangs={"turn"})).run()


def replied(fold: Fold) -> list[Any]:
    """What the agent was answered, as it stands in the transcript."""
    found = [(line.model_extra or {}) for line in fold.lines if line.kind == "received"]
    return [f["msg"]["result"] for f in found if f["key"] == "acp:r7"]


def test_an_answer_reaches_the_agent_that_asked() -> None:
    fold = asking()
    assert Question(id="7.0.0", text="Which?", options=("a", "b")) in fold.events()
    assert fold.session.verdict is None
    fold.reply("c1", "7.0.0", "b")
    fold.run()
    assert replied(fold) == [{"action": "accept", "content": {"answer": "b"}}]
    assert fold.events()[-2:] == [
        QuestionClosed(id="7.0.0", answered=True),
        CommandSeen(command="c1"),
    ]


def test_free_words_are_an_answer_too() -> None:
    fold = asking()
    fold.reply("c1", "7.0.0", "neither of them")
    fold.run()
    assert replied(fold) == [{"action": "accept", "content": {"answer_other": "neither of them"}}]


def test_whoever_goes_on_with_the_transcript_waits_for_the_same_answer() -> None:
    fold = asking()
    session = fold.fresh()
    assert [r for line in fold.lines for r in session.feed(line)] == fold.records
    fold.reply("c1", "7.0.0", "a")
    session.feed(fold.lines[-1])
    [reply] = session.pending()
    assert reply.msg["result"] == {"action": "accept", "content": {"answer": "a"}}


def test_an_answer_that_nobody_waits_for_is_word_to_the_agent() -> None:
    fold = asking()
    fold.reply("c1", "7.0.0", "a")
    fold.reply("c2", "7.0.0", "b")
    fold.run()
    assert CommandSeen(command="c2") in fold.events()
    fold.line("agent", msg={"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}})
    fold.container.hangs.clear()
    fold.container.turn = []
    fold.run()
    assert fold.container.prompts == ["fix it", "The answer is: b"]
    assert len(replied(fold)) == 1


def test_stop_while_a_question_is_open_cancels_it_and_the_turn() -> None:
    fold = asking()
    fold.command("c1", "stop")
    fold.run()
    assert replied(fold) == [{"action": "cancel"}]
    assert QuestionClosed(id="7.0.0", answered=False) in fold.events()
    assert any((line.model_extra or {}).get("key") == "acp:cancel" for line in fold.lines)


@pytest.mark.parametrize(
    "ending",
    [
        {"kind": "agent", "msg": {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}}},
        {"kind": "agent", "msg": {"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": "x"}}},
        {"kind": "agent_exit", "status": 1},
    ],
)
def test_a_turn_that_ends_leaves_no_question_open(ending: dict[str, Any]) -> None:
    fold = asking()
    fold.line(**ending)
    fold.run()
    assert QuestionClosed(id="7.0.0", answered=False) in fold.events()


def test_stop_outside_of_a_turn_ends_at_once() -> None:
    fold = Fold(container=AgentContainer(hangs={"setup"}), settings=VERIFY).run()
    fold.command("c1", "stop")
    assert verdict(fold.run()).outcome == "stopped"


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "max_turn_requests", "cancelled"])
def test_a_turn_that_ends_early_fails_the_run(reason: str) -> None:
    fold = Fold(container=AgentContainer(stop_reason=reason)).run()
    assert verdict(fold).outcome == "failed"
    assert verdict(fold).reason


def test_an_agent_that_dies_fails_the_run_with_its_last_words() -> None:
    fold = Fold(container=AgentContainer(hangs={"session/prompt"})).run()
    fold.line("stderr", text="Segmentation fault")
    fold.line("agent_exit", status=139)
    fold.run()
    assert verdict(fold).outcome == "failed"
    assert "139" in verdict(fold).reason
    assert "Segmentation fault" in verdict(fold).tail


def test_an_error_of_the_agent_fails_the_run_with_its_message() -> None:
    fold = Fold(container=AgentContainer(hangs={"session/prompt"})).run()
    error = {"code": -32000, "message": "out of credit"}
    fold.line("agent", msg={"jsonrpc": "2.0", "id": 3, "error": error})
    assert "out of credit" in verdict(fold.run()).reason


def test_a_malformed_message_fails_the_run() -> None:
    fold = Fold(container=AgentContainer(turn=[update("tool_call", title=3)])).run()
    assert "protocol" in verdict(fold).reason


def test_an_update_that_was_cut_is_left_out() -> None:
    fold = Fold(container=AgentContainer(hangs={"session/prompt"})).run()
    cut = {"jsonrpc": "2.0", "method": "session/update"}
    fold.line("agent", msg=cut, note="cut: the line was too long")
    fold.run()
    assert fold.session.verdict is None


def test_a_failed_prepare_is_our_fault() -> None:
    fold = Fold(container=AgentContainer(statuses={"prepare": [128]})).run()
    assert verdict(fold).infrastructure


def test_commands_are_folded_from_the_transcript_alone() -> None:
    fold = Fold(settings=VERIFY, container=AgentContainer(hangs={"setup"})).run()
    fold.command("c1", "steer", "also this")
    fold.run()
    again = fold.fresh()
    for line in fold.lines:
        again.feed(line)
    assert again.pending() == fold.session.pending()


WORDS = st.sampled_from(
    [
        chunk("text"),
        chunk("other", messageId="m2"),
        update("plan", entries=[{"content": "a", "priority": "low", "status": "pending"}]),
        update("tool_call", toolCallId="t1", title="edit"),
        update("tool_call_update", toolCallId="t1", status="completed"),
        update("usage_update", used=1, size=2, cost={"amount": 0.5, "currency": "USD"}),
        update("something_new", anything=1),
        {
            "jsonrpc": "2.0",
            "id": 7,
            "method": "session/request_permission",
            "params": {
                "sessionId": "s1",
                "toolCall": {"toolCallId": "t1"},
                "options": [{"optionId": "ok", "name": "Allow", "kind": "allow_once"}],
            },
        },
        elicitation("Which?", ["a", "b"]),
        {"jsonrpc": "2.0", "id": "f", "method": "fs/read_text_file", "params": {}},
        {"jsonrpc": "2.0", "nothing": True},
    ]
)
STATUSES = st.lists(st.sampled_from([0, 0, 1]), max_size=4)


@st.composite
def folds(draw: st.DrawFn) -> Fold:
    container = AgentContainer(
        turn=draw(st.lists(WORDS, max_size=5)),
        statuses={"verify": draw(STATUSES), "push": draw(STATUSES), "setup": draw(STATUSES)},
        changed=draw(st.booleans()),
    )
    fold = Fold(container=container, settings=draw(st.sampled_from([VERIFY, RepoSettings()])))
    fold.line("ready")
    if draw(st.booleans()):
        fold.command("c1", draw(st.sampled_from(["steer", "stop"])), "more")
    return fold.run()


def refolded(fold: Fold, upto: int) -> tuple[Session, list[EventRecord]]:
    session = fold.fresh()
    return session, [r for line in fold.lines[:upto] for r in session.feed(line)]


@given(folds(), st.data())
def test_whoever_folds_a_transcript_knows_the_same(fold: Fold, data: st.DataObject) -> None:
    split = data.draw(st.integers(0, len(fold.lines)))
    _, first = refolded(fold, split)
    second_session, whole = refolded(fold, len(fold.lines))
    assert whole == fold.records
    assert whole[: len(first)] == first
    assert second_session.verdict == fold.session.verdict
    assert second_session.pending() == fold.session.pending()


@given(folds())
def test_every_event_has_a_number_of_its_own(fold: Fold) -> None:
    numbers = [record.seq for record in fold.records]
    assert numbers == sorted(set(numbers))
    assert fold.session.verdict is not None


def test_pending_is_what_was_not_received() -> None:
    fold = Fold(settings=VERIFY).run()
    session = fold.fresh()
    outstanding: dict[str, Any] = {}
    for line in fold.lines:
        session.feed(line)
        fields = line.model_extra or {}
        if line.kind == "received":
            outstanding.pop(fields["key"], None)
        for out in session.pending():
            outstanding.setdefault(out.key, out)
        assert [o.key for o in session.pending()] == list(outstanding)


def test_the_agents_words_become_events() -> None:
    plan = update("plan", entries=[{"content": "a", "priority": "low", "status": "completed"}])
    tool = update("tool_call", toolCallId="t1", title="edit", status="in_progress")
    fold = Fold(container=AgentContainer(turn=[chunk("Look"), plan, tool, chunk("Done")])).run()
    said = [e for e in fold.events() if isinstance(e, Said | Plan | ToolCall)]
    assert [type(e).__name__ for e in said] == ["Said", "Plan", "ToolCall", "Said"]
    assert verdict(fold).summary == "Done"


def test_of_a_flood_so_much_is_told_and_what_others_wait_for() -> None:
    flood = [update("tool_call", toolCallId=str(n), title="x") for n in range(MOST_EVENTS + 50)]
    fold = Fold(container=AgentContainer(turn=[*flood, chunk("Done.")])).run()
    [remark] = [event for event in fold.events() if isinstance(event, Remark)]
    calls = [event for event in fold.events() if isinstance(event, ToolCall)]
    assert len(calls) == MOST_EVENTS - 1
    assert str(MOST_EVENTS) in remark.text
    assert phases(fold)[-1] == "push done"
    assert verdict(fold).summary == "Done."
