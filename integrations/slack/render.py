"""Replies become Block Kit: pure.

Slack refuses a message whose blocks are too long together even where each is within its own
limit, so everything here is cut to a share of about 12 000 characters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from integrations.channel import (
    Card,
    Check,
    Final,
    Notice,
    Opening,
    Question,
    Reply,
    Step,
    StepState,
)
from integrations.slack.mrkdwn import (
    code,
    code_block,
    defuse,
    escape,
    from_markdown,
    pages,
    written,
    written_line,
)
from integrations.wording import (
    STEP_SIGNS,
    STOP_HINT,
    card_places,
    final_facts,
    outcome,
    pull_words,
    state_facts,
    state_sign,
)

Block = dict[str, object]

SECTION = 3000
TEXT_FALLBACK = 3900
TITLE = 200
LINE = 300
STEP = 120
MAX_STEPS = 22
BUTTON_TEXT = 75
URL = 3000
MAX_OPTIONS = 10
OPTION = 250
LONG_TEXT = 6000
USER_ID_LENGTHS = range(9, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    text: str
    """What notifications, screen readers and old clients show."""
    blocks: list[Block]


def render(reply: Reply) -> Rendered:
    match reply:
        case Card():
            return _card(reply)
        case Notice():
            return _notice(reply)
        case Question():
            return _question(reply)
        case Final():
            return _final(reply)
        case _:
            assert_never(reply)


def render_opening(opening: Opening) -> Rendered:
    """The message that a thread of ours begins with."""
    title = written_line(opening.title, TITLE) or "Errand"
    text = written(opening.text, LONG_TEXT)
    link = written(opening.link, URL) if opening.link.startswith("https://") else ""
    return Rendered(
        text=_fallback([title, text, link]),
        blocks=[
            _section(f"*{title}*"),
            *([_context([part for part in (text, link) if part])] if text or link else []),
        ],
    )


_CHANNEL = re.compile(r"\bslack:(C[A-Z0-9]+)\b")
"""A place as policy names it: people see its name."""


def _card(card: Card) -> Rendered:
    title = written_line(card.title, TITLE) or "Errand"
    places = [_CHANNEL.sub(r"<#\1>", written_line(place, LINE)) for place in card_places(card)]
    state = written_line(f"{state_sign(card)} {' · '.join(state_facts(card))}", LINE)
    steps = _steps(card.steps)
    top = _section("\n".join([" · ".join([f"*{title}*", *places]), state]))
    doing = written_line(card.doing, LINE)
    below = [line for line in (doing, STOP_HINT if card.live else "") if line]
    return Rendered(
        text=_fallback([title, *places, state, *steps, *below]),
        blocks=[
            top,
            *([_section("\n".join(steps))] if steps else []),
            *([_context(below)] if below else []),
        ],
    )


def _steps(steps: Sequence[Step]) -> list[str]:
    lines = [f"{STEP_SIGNS[step.state]} {written_line(step.title, STEP)}" for step in steps]
    if len(lines) <= MAX_STEPS:
        return lines
    # What is done is the least news: fold it first, then what is furthest away.
    done = [i for i, step in enumerate(steps) if step.state is StepState.DONE]
    folded = set(done[: len(lines) - MAX_STEPS + 1])
    kept = [line for i, line in enumerate(lines) if i not in folded]
    if folded:
        kept.insert(0, f"{STEP_SIGNS[StepState.DONE]} {len(folded)} steps before")
    if len(kept) > MAX_STEPS:
        kept = [*kept[: MAX_STEPS - 1], f"… {len(kept) - MAX_STEPS + 1} more"]
    return kept


def _notice(notice: Notice) -> Rendered:
    text = f"⚠️ {notice.text}" if notice.error else notice.text
    return Rendered(text=_fallback([_written(text)]), blocks=_sections(text))


def _question(question: Question) -> Rendered:
    options = [f"• {written_line(o.label, OPTION)}" for o in question.options[:MAX_OPTIONS]]
    hint = "reply in this thread with your choice"
    return Rendered(
        text=_fallback([_written(question.text), *options]),
        blocks=[
            *_sections(question.text),
            *([_section("\n".join(options))] if options else []),
            _context([hint]),
        ],
    )


def _final(final: Final) -> Rendered:
    tail = code_block(final.tail, SECTION)
    facts = _facts(final)
    button = _button(final)
    first, *rest = _texts(from_markdown(final.text)) or [""]
    head = f"*{outcome(final)}*" + (f": {first}" if first else "")
    label = written_line(pull_words(final), LINE)
    link = [f"{label}: {written(final.pull_url, URL)}"] if button else []
    actions: list[Block] = [{"type": "actions", "elements": [button]}] if button else []
    return Rendered(
        text=_fallback(
            [f"{outcome(final)}: {_written(from_markdown(final.text))}", *facts, *link, tail]
        ),
        blocks=[
            *map(_section, [head, *rest]),
            *([_section(tail)] if tail else []),
            *([_context([" · ".join(facts)])] if facts else []),
            *actions,
        ],
    )


def _facts(final: Final) -> list[str]:
    facts = final_facts(final)
    checks = [_check(check) for check in facts.checks]
    more = [f"{facts.hidden} more checks"] if facts.hidden else []
    asked = [f"asked by {_person(facts.asked_by)}"] if facts.asked_by else []
    return [part for part in (facts.changes, *checks, *more, facts.cost, *asked) if part]


def _check(check: Check) -> str:
    return f"{code(check.command, STEP)} {'passed' if check.passed else 'failed'}"


def _person(name: str) -> str:
    """A Slack user id as a mention: the end of their errand is news to who asked."""
    is_id = name[:1] in {"U", "W"} and name.isascii() and name.isalnum() and name.isupper()
    return f"<@{name}>" if is_id and len(name) in USER_ID_LENGTHS else written_line(name, STEP)


def _button(final: Final) -> Block | None:
    """Only our own forge's addresses get here, and only as what they are."""
    if not final.pull_url.startswith(("https://", "http://")) or len(final.pull_url) > URL:
        return None
    return {
        "type": "button",
        "action_id": "open_pull_request",
        "text": {"type": "plain_text", "text": defuse(pull_words(final))[:BUTTON_TEXT]},
        "url": final.pull_url,
        "style": "primary",
    }


def _texts(text: str) -> list[str]:
    """Room for a heading stays free in the first."""
    return pages(text, page=SECTION - 100, total=LONG_TEXT)


def _sections(text: str) -> list[Block]:
    return [_section(page) for page in _texts(text) or ["…"]]


def _section(mrkdwn: str) -> Block:
    # Without `expand` Slack folds longer sections behind «see more».
    return {"type": "section", "expand": True, "text": {"type": "mrkdwn", "text": mrkdwn}}


def _context(parts: Sequence[str]) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": part} for part in parts]}


def _written(text: str) -> str:
    return escape(defuse(text).strip())


def _fallback(lines: Sequence[str]) -> str:
    """Already escaped lines, cut without breaking an entity or a mention."""
    text = "\n".join(line for line in lines if line) or "…"
    if len(text) <= TEXT_FALLBACK:
        return text
    cut = text[: TEXT_FALLBACK - 1]
    for opening, closing in (("&", ";"), ("<", ">")):
        if cut.rfind(opening) > cut.rfind(closing):
            cut = cut[: cut.rfind(opening)]
    return cut + "…"
