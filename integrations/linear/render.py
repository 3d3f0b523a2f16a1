"""Replies become the content of a session's activities: pure."""

import re
from collections.abc import Sequence
from typing import Final as Constant

from integrations.channel import Card, Check, Final, Notice, Opening, Question, StepState
from integrations.linear.markup import (
    code,
    code_block,
    defuse,
    is_web,
    limited,
    link,
    written,
    written_line,
)
from integrations.wording import card_places, duration, final_facts, outcome, pull_words

Content = dict[str, str]

LONG_TEXT: Constant = 8000
TAIL: Constant = 3000
LINE: Constant = 300
TITLE: Constant = 250
MAX_OPTIONS: Constant = 20
OPTION: Constant = 250
SEEN: Constant[Content] = {
    "type": "thought",
    "body": "I have this, and will show here what I do.",
}

_VERBS: Constant = frozenset(
    [
        "create",
        "delete",
        "edit",
        "fetch",
        "find",
        "list",
        "move",
        "open",
        "read",
        "rename",
        "run",
        "search",
        "update",
        "write",
    ]
)


def notice(reply: Notice, *, running: bool) -> Content:
    """While work goes on a notice is a thought; else it is the answer, or Linear would wait for one."""
    text = written(reply.text, LONG_TEXT) or "…"
    if running:
        return {"type": "thought", "body": f"⚠️ {text}" if reply.error else text}
    return {"type": "error" if reply.error else "response", "body": text}


def question(reply: Question) -> Content:
    return {"type": "elicitation", "body": written(reply.text, LONG_TEXT) or "Which?"}


def choices(reply: Question) -> list[dict[str, str]]:
    """What can be chosen with a click; the value is what that says."""
    return [
        {"label": written_line(option.label, OPTION) or "…", "value": option.words[:OPTION] or "…"}
        for option in reply.options[:MAX_OPTIONS]
    ]


def started(card: Card) -> Content:
    """The activity that a run begins with; the rest of the card is the plan and what follows."""
    places = [written_line(place, LINE) for place in card_places(card)]
    begun: Content = {
        "type": "action",
        "action": written_line(card.state.capitalize(), LINE) or "Begun",
        "parameter": " · ".join(places) or written_line(card.title, LINE) or "…",
    }
    held_up = written_line(card.doing, LINE) if card.live else ""
    return begun | ({"result": held_up} if held_up else {})


def doing(card: Card) -> Content:
    """What goes on, as a kind of work and what it is done to."""
    text = written_line(card.doing, LINE)
    head, colon, rest = text.partition(": ")
    if not (colon and rest and len(head.split()) <= 3):  # noqa: PLR2004 - a phrase, and no sentence
        head, _, rest = text.partition(" ")
        if not rest or not (head.lower() in _VERBS or head.lower().endswith("ing")):
            head, rest = "Working", text
    action: Content = {
        "type": "action",
        "action": head[:1].upper() + head[1:],
        "parameter": rest or "…",
    }
    return action | ({"result": reached} if (reached := _reached(card)) else {})


def _reached(card: Card) -> str:
    """What came of it so far."""
    done = sum(step.state is StepState.DONE for step in card.steps)
    failed = sum(step.state is StepState.FAILED for step in card.steps)
    if not done + failed:
        return ""
    return f"{done} of {len(card.steps)} steps done" + (f", {failed} failed" if failed else "")


def still(card: Card) -> Content:
    """A sign of life where nothing is new."""
    since = f" for {duration(card.elapsed_seconds)}" if card.elapsed_seconds is not None else ""
    what = written_line(card.doing, LINE)
    return {"type": "thought", "body": f"Still at it{since}{f': {what}' if what else ''}."}


def final(reply: Final) -> Content:
    head = f"**{outcome(reply)}**"
    text = written(reply.text, LONG_TEXT)
    parts = [
        f"{head}: {text}" if text else head,
        code_block(reply.tail, TAIL),
        " · ".join(_facts(reply)),
        link(pull_words(reply), reply.pull_url) if is_web(reply.pull_url) else "",
    ]
    kind = "error" if reply.outcome == "failed" else "response"
    return {"type": kind, "body": "\n\n".join(part for part in parts if part)}


def _facts(reply: Final) -> Sequence[str]:
    facts = final_facts(reply)
    checks = [_check(check) for check in facts.checks]
    more = [f"{facts.hidden} more checks"] if facts.hidden else []
    asked = [f"asked by {written_line(facts.asked_by, LINE)}"] if facts.asked_by else []
    return [part for part in (facts.changes, *checks, *more, facts.cost, *asked) if part]


def _check(check: Check) -> str:
    return f"{code(check.command, LINE)} {'passed' if check.passed else 'failed'}"


def opening_text(opening: Opening) -> str:
    """The description of a ticket that we make for work that was asked for elsewhere."""
    links = [f"<{url}>" for url in (opening.link, opening.url) if is_web(url)]
    return "\n\n".join(part for part in (written(opening.text, LONG_TEXT), *links) if part)


def opening_title(opening: Opening) -> str:
    return written_line(opening.title, TITLE) or "Errand"


def pull_title(reply: Final) -> str:
    return limited(defuse(f"Pull request {reply.pull_label}".strip()), TITLE)


def is_github_pull(url: str, host: str) -> bool:
    return (
        re.fullmatch(rf"https://{re.escape(host)}/[\w.-]+/[\w.-]+/pull/[0-9]+/?", url) is not None
    )
