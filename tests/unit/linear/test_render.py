import pytest

from integrations.channel import (
    Card,
    Check,
    Final,
    Notice,
    Opening,
    Option,
    Question,
    Step,
    StepState,
)
from integrations.linear import render
from integrations.linear.plan import MAX_ENTRIES, plan_of

CARD = Card(
    task="01J", title="Fix it", repo="acme/web", repo_reason="default", agent="script",
    state="queued", live=True,
)  # fmt: skip
HOSTILE = (
    "@dana ![x](http://evil.example/p) <img> https://linear.app/a/profiles/b ``` \x1b[2J" * 300
)


@pytest.mark.parametrize(
    ("doing", "action", "parameter"),
    [
        ("editing tests/login.spec.ts", "Editing", "tests/login.spec.ts"),
        ("Read src/app.py", "Read", "src/app.py"),
        ("verifying: npm test", "Verifying", "npm test"),
        ("handing the commits in", "Handing", "the commits in"),
        ("the agent is at work", "Working", "the agent is at work"),
        ("ls -la", "Working", "ls -la"),
        ("running", "Working", "running"),
        (
            "this is a long sentence: with a colon",
            "Working",
            "this is a long sentence: with a colon",
        ),
    ],
)
def test_what_goes_on_is_a_kind_of_work_and_its_object(
    doing: str, action: str, parameter: str
) -> None:
    content = render.doing(CARD.model_copy(update={"doing": doing}))
    assert content == {"type": "action", "action": action, "parameter": parameter}


@pytest.mark.parametrize(
    ("states", "result"),
    [
        ((StepState.RUNNING, StepState.PENDING), None),
        ((StepState.DONE, StepState.RUNNING), "1 of 2 steps done"),
        ((StepState.DONE, StepState.FAILED, StepState.PENDING), "1 of 3 steps done, 1 failed"),
    ],
)
def test_an_action_says_what_came_of_it_so_far(
    states: tuple[StepState, ...], result: str | None
) -> None:
    steps = tuple(Step(title="x", state=state) for state in states)
    content = render.doing(CARD.model_copy(update={"doing": "editing a.py", "steps": steps}))
    assert content.get("result") == result


def test_a_run_begins_with_its_place() -> None:
    assert render.started(CARD) == {
        "type": "action", "action": "Queued", "parameter": "acme/web (default) · script",
    }  # fmt: skip
    bare = CARD.model_copy(update={"repo": "", "agent": ""})
    assert render.started(bare)["parameter"] == "Fix it"


def test_still_at_it_says_since_when() -> None:
    card = CARD.model_copy(update={"elapsed_seconds": 3700, "doing": "running npm test"})
    assert render.still(card)["body"] == "Still at it for 1 h 01 min: running npm test."
    assert render.still(CARD)["body"] == "Still at it."


def test_a_long_plan_says_how_much_is_hidden() -> None:
    steps = (Step(title="x", state=StepState.DONE),) * (MAX_ENTRIES + 3)
    plan = plan_of(steps)
    assert len(plan) == MAX_ENTRIES + 1
    assert plan[-1] == {"content": "3 more", "status": "pending"}


def test_an_empty_step_is_still_one() -> None:
    assert plan_of((Step(title="", state=StepState.RUNNING),)) == [
        {"content": "…", "status": "inProgress"}
    ]


@pytest.mark.parametrize(
    ("outcome", "kind", "head"),
    [
        ("succeeded", "response", "**Done in 2 s**: Well."),
        ("unchanged", "response", "**Nothing to change after 2 s**: Well."),
        ("stopped", "response", "**Stopped after 2 s**: Well."),
        ("failed", "error", "**Failed after 2 s**: Well."),
    ],
)
def test_the_last_word_is_a_response_or_an_error(outcome: str, kind: str, head: str) -> None:
    final = Final.model_validate({"outcome": outcome, "text": "Well.", "elapsed_seconds": 2})
    assert render.final(final) == {"type": kind, "body": head}


def test_figures_stand_at_the_end() -> None:
    final = Final(
        outcome="succeeded", text="", files=1, added=2, removed=3, cost_usd=0.5, asked_by="dana",
        checks=(Check(command="npm `test`", passed=False),),
    )  # fmt: skip
    body = render.final(final)["body"]
    assert "1 file, +2" in body
    assert "`npm ˋtestˋ` failed" in body  # noqa: RUF001 - look-alikes
    assert body.endswith("$0.50 · asked by dana")


def test_an_address_that_is_none_is_no_link() -> None:
    final = Final(outcome="succeeded", text="x", pull_url="javascript:alert(1)")
    assert "javascript" not in render.final(final)["body"]


@pytest.mark.parametrize(
    "content",
    [
        render.notice(Notice(text=HOSTILE), running=True),
        render.notice(Notice(text=HOSTILE, error=True), running=False),
        render.question(Question(text=HOSTILE, options=())),
        render.doing(CARD.model_copy(update={"doing": HOSTILE})),
        render.started(CARD.model_copy(update={"repo": HOSTILE, "state": HOSTILE})),
        render.still(CARD.model_copy(update={"doing": HOSTILE})),
        render.final(Final(outcome="failed", text=HOSTILE, tail=HOSTILE, asked_by=HOSTILE)),
    ],
    ids=lambda content: content["type"],
)
def test_no_words_of_others_are_live_or_endless(content: dict[str, str]) -> None:
    shown = " ".join(content.values())
    for live in ("@dana", "](http", "<img", "linear.app", "\x1b"):
        assert live not in shown
    assert len(shown) < 13_000


@pytest.mark.parametrize("text", ["", " \n", "\x00"])
def test_nothing_said_is_still_a_word(text: str) -> None:
    assert render.notice(Notice(text=text), running=True)["body"] == "…"
    assert render.question(Question(text=text, options=()))["body"] == "Which?"


def test_what_is_chosen_is_said() -> None:
    options = (Option(label="[A](x)", words="acme/web"), Option(label="", words=""))
    assert render.choices(Question(text="?", options=options)) == [
        {"label": "[A]\u200b(x)", "value": "acme/web"},
        {"label": "…", "value": "…"},
    ]


def test_a_ticket_of_ours_says_where_it_was_asked_for() -> None:
    opening = Opening(
        title="", text="Asked by @dana", url="https://e.example/tasks/1", link="slack:nonsense"
    )
    assert render.opening_title(opening) == "Errand"
    assert render.opening_text(opening) == "Asked by @\u200bdana\n\n<https://e.example/tasks/1>"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://github.com/acme/web/pull/1", True),
        ("https://github.com/acme/web/pull/1/files", False),
        ("https://github.com.evil.example/acme/web/pull/1", False),
        ("https://githubxcom/acme/web/pull/1", False),
        ("http://127.0.0.1/forge/acme/web/pulls/1", False),
    ],
)
def test_linear_knows_githubs_pull_requests_only(url: str, *, good: bool) -> None:
    assert render.is_github_pull(url, "github.com") is good
