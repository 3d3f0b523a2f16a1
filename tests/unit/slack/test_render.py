import re
from typing import Any, TypeGuard

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import words
from integrations.channel import (
    Card,
    Check,
    Final,
    Notice,
    Opening,
    Option,
    Question,
    Reply,
    Step,
    StepState,
)
from integrations.slack.render import Rendered, render, render_opening, render_request
from tests.support.slack_limits import problem_of_message, texts_in

CARD = Card(
    task="01J",
    title="Fix the flaky login test",
    repo="acme/web",
    repo_reason="default of #web",
    agent="claude-code",
    state="working",
    live=True,
    steps=(
        Step(title="reproduce the failure", state=StepState.DONE),
        Step(title="fix and add a test", state=StepState.RUNNING),
        Step(title="run the suite", state=StepState.PENDING),
        Step(title="lint", state=StepState.FAILED),
    ),
    doing="editing tests/login.spec.ts",
    elapsed_seconds=130,
    cost_usd=0.31,
)
FINAL = Final(
    outcome="succeeded",
    text="the session cookie was read before it was set.",
    pull_url="https://github.com/acme/web/pull/481",
    pull_label="#481",
    files=2,
    added=14,
    removed=3,
    checks=(Check(command="npm test", passed=True),),
    elapsed_seconds=242,
    cost_usd=0.58,
    asked_by="U0DANA1234",
)


def a_choice(words: str) -> Option:
    return Option(label=words, words=words)


def is_mrkdwn(part: object) -> TypeGuard[dict[str, object]]:
    return isinstance(part, dict) and part.get("type") == "mrkdwn"


def mrkdwn(rendered: Rendered) -> list[str]:
    """Every text that Slack would read as markup."""
    found: list[str] = [rendered.text]
    for block in rendered.blocks:
        elements = block.get("elements", [])
        assert isinstance(elements, list)
        found += [str(t["text"]) for t in [block.get("text"), *elements] if is_mrkdwn(t)]
    return found


def buttons(rendered: Rendered) -> list[dict[str, Any]]:
    """Whatever can be pressed or chosen from."""
    found: list[dict[str, Any]] = []
    for block in rendered.blocks:
        elements = block["elements"] if block["type"] == "actions" else []
        assert isinstance(elements, list)
        found += elements
    return found


def test_a_card_shows_state_plan_and_how_to_stop() -> None:
    assert mrkdwn(render(CARD))[1:] == [
        (
            "*Fix the flaky login test* · acme/web (default of #web) · claude-code\n"
            "● working · 2 min 10 s · $0.31"
        ),
        "✓ reproduce the failure\n▸ fix and add a test\n○ run the suite\n✗ lint",
        "editing tests/login.spec.ts",
        "reply `stop` to stop",
    ]


def test_a_card_that_has_ended_offers_no_stop() -> None:
    ended = CARD.model_copy(update={"live": False, "state": "done", "doing": ""})
    texts = mrkdwn(render(ended))
    assert "✓ done" in texts[1]
    assert not any("stop" in text for text in texts)


def test_a_queued_card_needs_no_plan() -> None:
    card = Card(task="1", title="Fix", repo="", repo_reason="", agent="", state="queued", live=True)
    assert mrkdwn(render(card))[1:] == ["*Fix*\n● queued", "reply `stop` to stop"]


def test_a_long_plan_folds_what_is_done_first() -> None:
    done = tuple(Step(title=f"done {n}", state=StepState.DONE) for n in range(25))
    ahead = tuple(Step(title=f"ahead {n}", state=StepState.PENDING) for n in range(5))
    plan = mrkdwn(render(CARD.model_copy(update={"steps": (*done, *ahead)})))[2].splitlines()
    assert len(plan) <= 22
    assert plan[0] == "✓ 9 steps before"
    assert plan[-1] == "○ ahead 4"


def test_a_long_plan_ahead_says_how_much_more() -> None:
    steps = tuple(Step(title=f"{n}", state=StepState.PENDING) for n in range(30))
    plan = mrkdwn(render(CARD.model_copy(update={"steps": steps})))[2].splitlines()
    assert len(plan) == 22
    assert plan[-1] == "… 9 more"


def test_a_final_says_what_changed_and_links_the_pull_request() -> None:
    rendered = render(FINAL)
    assert mrkdwn(rendered)[1:3] == [
        "*Done in 4 min 02 s*: the session cookie was read before it was set.",
        "2 files, +14 −3 · `npm test` passed · $0.58 · asked by <@U0DANA1234>",  # noqa: RUF001  as shown
    ]
    first = buttons(rendered)[0]
    assert first["text"]["text"] == "Open pull request #481"
    assert first["url"] == FINAL.pull_url
    assert "Open pull request #481: https://github.com/acme/web/pull/481" in rendered.text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "slack://x", "https://" + "a" * 3000, ""])
def test_only_web_addresses_become_buttons(url: str) -> None:
    rendered = render(FINAL.model_copy(update={"pull_url": url}))
    assert all("url" not in element for element in buttons(rendered))


def test_the_tail_keeps_its_end_and_cannot_leave_its_fence() -> None:
    rendered = render(FINAL.model_copy(update={"tail": "x\n" * 4000 + "```\n<!here> boom"}))
    [tail] = [text for text in mrkdwn(rendered)[1:] if text.startswith("```")]
    assert tail.endswith("boom\n```")
    assert tail.count("```") == 2
    assert len(tail) <= 3000


def test_bold_and_headings_of_markdown_are_kept() -> None:
    text = "## Changes\nNow **fast**.\n```\n**kept**\n```\nf(**a, **b)"
    rendered = render(FINAL.model_copy(update={"text": text}))
    assert mrkdwn(rendered)[1].endswith("*Changes*\nNow *fast*.\n```\n**kept**\n```\nf(**a, **b)")


def test_a_question_lists_its_options() -> None:
    texts = mrkdwn(
        render(Question(text="Which?", options=(a_choice("acme/web"), a_choice("acme/api"))))
    )
    assert texts[0] == "Which?\n• acme/web\n• acme/api"


def test_a_question_calls_who_asked_and_shows_its_answer() -> None:
    asked = Question(text="Which?", options=(a_choice("a"),), calls="slack:U0DANA1234")
    assert "<@U0DANA1234>: choose, or reply in this thread" in mrkdwn(render(asked))
    assert "<@U0DANA1234>" in render(asked).text
    elsewhere = render(asked.model_copy(update={"calls": "linear:dana@acme.com"}))
    assert "choose, or reply in this thread" in mrkdwn(elsewhere)
    answered = render(asked.model_copy(update={"chosen": "dana answered: a"}))
    assert mrkdwn(answered)[1:] == ["Which?", "→ *dana answered: a*"]


@pytest.mark.parametrize(
    "hostile",
    [
        "<!channel>",
        "<!here|x>",
        "<@U0LEE>",
        "<https://evil.example|https://github.com>",
        "@channel",
    ],
)
def test_untrusted_text_pings_nobody_and_masks_nothing(hostile: str) -> None:
    replies: list[Reply] = [
        CARD.model_copy(update={"title": hostile, "doing": hostile, "repo": hostile}),
        Notice(text=hostile),
        Question(text=hostile, options=(a_choice(hostile),)),
        FINAL.model_copy(update={"text": hostile, "tail": hostile, "asked_by": hostile}),
    ]
    for text in [text for reply in replies for text in mrkdwn(render(reply))]:
        assert "<" not in text
        assert "@channel" not in text


def test_a_title_cannot_end_its_bold() -> None:
    card = CARD.model_copy(update={"title": "a* `b` \n*c"})
    assert mrkdwn(render(card))[1].splitlines()[0].count("*") == 2


TEXT = st.text(max_size=30).map(lambda t: t * 200) | st.sampled_from(
    [
        "&" * 7000,
        "😀" * 7000,
        "`" * 7000,
        "\n" * 5000,
        "@here " * 3000,
        "<" * 3000,
        "<!channel> \u202e\u05d0" * 4000,
        "<https://a|b>" * 3077,
    ]
)
STEPS = st.lists(st.builds(Step, title=TEXT, state=st.sampled_from(StepState)), max_size=200).map(
    tuple
)
REPLY = st.one_of(
    st.builds(Notice, text=TEXT, error=st.booleans()),
    st.builds(
        Question, text=TEXT, options=st.lists(TEXT.map(a_choice), max_size=120).map(tuple),
        to=TEXT, calls=TEXT | st.just("slack:U0DANA1234"), chosen=st.just("") | TEXT,
    ),
    st.builds(
        Card, task=TEXT, title=TEXT, repo=TEXT, repo_reason=TEXT, agent=TEXT, state=TEXT,
        live=st.booleans(), steps=STEPS, doing=TEXT,
    ),
    st.builds(
        Final, outcome=st.sampled_from(["succeeded", "unchanged", "failed", "stopped"]),
        text=TEXT, tail=TEXT, pull_url=TEXT.map(lambda t: "https://" + t), pull_label=TEXT,
        checks=st.lists(st.builds(Check, command=TEXT, passed=st.booleans()), max_size=9).map(tuple),
        asked_by=TEXT,
    ),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(reply=REPLY, rich=st.booleans(), tickets=st.booleans())
def test_every_reply_is_within_slacks_limits(*, reply: Reply, rich: bool, tickets: bool) -> None:
    rendered = render(reply, rich=rich, tickets=tickets)

    assert 1 <= len(rendered.text) <= 4000
    assert problem_of_message(rendered.text, rendered.blocks) is None
    assert rich or problem_of_message(rendered.text, rendered.blocks, rich=False) is None
    assert is_harmless(rendered)


def is_harmless(rendered: Rendered) -> bool:
    """It calls nobody, and no entity is cut in two."""
    shown = [rendered.text, *(t for block in rendered.blocks for t in texts_in(block))]
    calls = [t for t in shown if re.search(r"@(channel|here|everyone)\b", t, re.IGNORECASE)]
    cut = [t for t in mrkdwn(rendered) if re.search(r"&(?!amp;|lt;|gt;)", t)]
    return not calls and not cut


@settings(max_examples=50, deadline=None)
@given(title=TEXT, text=TEXT, link=TEXT.map(lambda t: "https://" + t))
def test_what_begins_a_thread_is_within_slacks_limits(title: str, text: str, link: str) -> None:
    opening = Opening(title=title, text=text, url="u", link=link)
    for rendered in (render_opening(opening), render_request("U0DANA1234", text)):
        assert 1 <= len(rendered.text) <= 4000
        assert problem_of_message(rendered.text, rendered.blocks, rich=False) is None
        assert is_harmless(rendered)


def test_a_channel_is_shown_by_its_name() -> None:
    card = CARD.model_copy(update={"repo_reason": "the default of slack:C0WEB"})
    assert "the default of <#C0WEB>" in str(render(card).blocks)


def test_an_opening_says_what_it_is_about_and_links_to_where_it_was_asked_for() -> None:
    opening = Opening(
        title="Fix <!channel>", text="asked by Dana in ENG", url="u", link="https://linear.app/x"
    )
    texts = mrkdwn(render_opening(opening))
    assert texts[1:] == ["*Fix &lt;!channel&gt;*", "asked by Dana in ENG", "https://linear.app/x"]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("tickets", [True, False])
def test_a_ticket_can_be_made_of_live_work_where_there_is_a_place_for_it(
    *, live: bool, tickets: bool
) -> None:
    card = CARD.model_copy(update={"live": live})
    offered = [b["value"] for b in buttons(render(card, tickets=tickets))]
    assert ("create issue" in offered) is (live and tickets)
    assert words.read("create issue", repos=()).word == "ticket"
