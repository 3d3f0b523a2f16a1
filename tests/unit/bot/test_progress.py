import pytest

from bot.progress import MAX_FILES, MAX_STEPS, Published, View, advance, card, final
from bot.states import TaskState
from integrations.channel import FileChange, Step, StepState
from runner.protocol import (
    CheckResult,
    Egress,
    Event,
    Finished,
    Phase,
    Plan,
    PlanEntry,
    Question,
    QuestionClosed,
    Said,
    Started,
    StepStatus,
    ToolCall,
    Usage,
)
from tests.support.builders import NOW, a_task, after

RUNNING, DONE, FAILED = StepStatus.RUNNING, StepStatus.DONE, StepStatus.FAILED


CHANGED = (
    FileChange(path="a.py", added=2, removed=1),
    FileChange(path="b.py", added=1, removed=0),
)


def view_of(*events: Event) -> View:
    view = View()
    for event in events:
        view = advance(view, event)
    return view


def test_the_newest_plan_is_shown() -> None:
    first = Plan(entries=(PlanEntry(title="look", status=RUNNING),))
    second = Plan(
        entries=(PlanEntry(title="look", status=DONE), PlanEntry(title="fix", status=RUNNING))
    )
    assert view_of(first, second).plan == (
        Step(title="look", state=StepState.DONE),
        Step(title="fix", state=StepState.RUNNING),
    )


def test_what_it_is_doing_is_the_tool_or_the_phase() -> None:
    tool = ToolCall(id="1", title="editing tests/login.spec.ts", status=RUNNING)
    verify = Phase(name="verify", status=RUNNING, detail="npm test")
    assert view_of(tool).doing == "editing tests/login.spec.ts"
    assert view_of(tool, verify).doing == "verifying: npm test"


def test_verification_becomes_a_step_that_changes_in_place() -> None:
    begun = Phase(name="verify", status=RUNNING, detail="npm test")
    ended = Phase(name="verify", status=FAILED, detail="npm test", tail="boom")
    assert view_of(begun, ended).checks == (Step(title="verify: npm test", state=StepState.FAILED),)


def test_a_question_is_what_it_waits_for_until_it_is_closed() -> None:
    asked = Question(id="1", text="Which?\nBoth would do.")
    view = view_of(asked)
    waiting = card(a_task(state=TaskState.WAITING), view, now=NOW, started_at=None)
    assert (waiting.state, waiting.waits) == ("waiting for you", True)
    assert waiting.doing == "asks: Which?"
    assert view_of(asked, QuestionClosed(id="1", answered=True)).question is None


def test_a_denied_host_is_shown_once() -> None:
    deny = Egress(
        verdict="deny", host="registry.example.com", port=443, rule="default", reason="not listed"
    )
    view = view_of(deny, deny)
    shown = card(a_task(), view, now=NOW, started_at=NOW)
    assert view.denied == ("registry.example.com",)
    assert "registry.example.com" in shown.doing


def test_usage_keeps_what_is_known() -> None:
    assert view_of(Usage(cost_usd=0.5), Usage(input_tokens=3)).cost_usd == 0.5


def test_what_was_counted_takes_the_place_of_what_the_agent_says() -> None:
    said = Usage(cost_usd=9.0, input_tokens=1)
    counted = Usage(metered=True, input_tokens=3, output_tokens=2, counted_usd=0.3)
    view = view_of(said, counted, said)
    assert (view.cost_usd, view.counted_usd, view.input_tokens) == (None, 0.3, 3)


def test_a_live_card_counts_and_an_ended_one_stands_still() -> None:
    live = card(a_task(), View(), now=after(70), started_at=NOW)
    ended = card(
        a_task(state=TaskState.FAILED, ended_at=after(5)), View(), now=after(70), started_at=NOW
    )
    assert (live.elapsed_seconds, live.live) == (70, True)
    assert (ended.elapsed_seconds, ended.live, ended.doing) == (5, False, "")


def test_a_long_plan_is_cut_and_says_so() -> None:
    entries = tuple(PlanEntry(title=str(n), status=DONE) for n in range(200))
    shown = card(a_task(), view_of(Plan(entries=entries)), now=NOW, started_at=None)
    assert len(shown.steps) == MAX_STEPS + 1
    assert shown.steps[-1].title == "… 170 more"


def test_the_last_word_of_a_publication_links_it() -> None:
    checks = (CheckResult(command="npm test", passed=True),)
    word = final(
        a_task(),
        view_of(Started(host="h", image="i", image_digest="d", agent="script", base_commit="b")),
        Finished(outcome="done", changed=True, summary="It waits now.", checks=checks),
        elapsed_seconds=9,
        published=Published(url="http://x/1", label="pull request #1", changed=CHANGED),
    )
    assert word.outcome == "succeeded"
    assert word.text == "It waits now."
    assert (word.pull_url, word.files, word.added, word.removed) == ("http://x/1", 2, 3, 1)
    assert word.checks[0].passed


def test_the_files_with_most_changes_are_named() -> None:
    many = tuple(FileChange(path=f"f{n}", added=n, removed=0) for n in range(MAX_FILES + 5))
    binary = FileChange(path="x" * 1000, added=None, removed=None)
    published = Published(changed=(binary, *many))
    finished = Finished(outcome="stopped")
    word = final(a_task(), View(), finished, elapsed_seconds=0, published=published)
    assert word.files == MAX_FILES + 6
    assert len(word.changed) == MAX_FILES
    assert (word.changed[0].path, word.changed[-1].path) == ("f54", "f5")


def test_no_change_is_said() -> None:
    word = final(
        a_task(), view_of(Said(text="Nothing to do.")), Finished(outcome="done"), elapsed_seconds=0
    )
    assert word.outcome == "unchanged"
    assert word.text == "Nothing to do.\nNothing changed, so there is no pull request."


def test_a_failure_tells_why_with_the_tail() -> None:
    finished = Finished(outcome="failed", reason="step 1 of 2 failed", tail="no such file")
    word = final(a_task(), View(), finished, elapsed_seconds=0)
    assert (word.outcome, word.text, word.tail) == ("failed", "step 1 of 2 failed", "no such file")


@pytest.mark.parametrize(
    ("pull_url", "kept"),
    [("", "on this errand's page only"), ("http://x/1", "the pull request stays as it was")],
)
def test_a_stop_says_what_is_kept(pull_url: str, kept: str) -> None:
    task = a_task().model_copy(update={"pull_url": pull_url})
    word = final(task, View(), Finished(outcome="stopped"), elapsed_seconds=0)
    assert word.outcome == "stopped"
    assert kept in word.text
