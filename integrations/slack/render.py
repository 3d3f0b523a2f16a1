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
from integrations.slack import names
from integrations.slack.blocks import (
    BUTTON_TEXT,
    BUTTON_VALUE,
    OPTION_VALUE,
    STEP,
    URL,
    Block,
    actions,
    button,
    context,
    is_address,
    link_button,
    option,
    person,
    plain_line,
    plain_text,
    section,
    select,
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

SECTION = 3000
TEXT_FALLBACK = 3900
TITLE = 200
LINE = 300
MAX_STEPS = 22
BUTTONS = 5
LISTED = 10
OPTIONS = 100
OPTION = 250
LONG_TEXT = 6000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    text: str
    """What notifications, screen readers and old clients show."""
    blocks: list[Block]
    attachment: str = ""
    """What did not fit, whole: goes along as a file."""


def render(reply: Reply, *, rich: bool = False, tickets: bool = False) -> Rendered:
    """As Slack shows it; `rich` with blocks that not every workspace has, `tickets` where one can be made."""
    match reply:
        case Card():
            return _card(reply, rich=rich, tickets=tickets)
        case Notice():
            return _notice(reply)
        case Question():
            return _question(reply)
        case Final():
            return _final(reply, rich=rich)
        case _:
            assert_never(reply)


def is_richer(reply: Reply) -> bool:
    """Does it look different with the newer blocks?"""
    match reply:
        case Card():
            return bool(reply.steps)
        case Final():
            return reply.outcome != "stopped"
        case _:
            return False


def render_request(person_id: str, text: str) -> Rendered:
    """What was asked for without a message, so that there is one to answer."""
    who = person(person_id)
    quoted = pages(text, page=SECTION - 100, total=LONG_TEXT)
    first, *rest = quoted or ["…"]
    return Rendered(
        text=_fallback([f"{who}: {first}"]),
        blocks=[section(f"{who} asks: {first}"), *map(section, rest)],
    )


def render_opening(opening: Opening) -> Rendered:
    """The message that a thread of ours begins with."""
    title = written_line(opening.title, TITLE) or "Errand"
    text = written(opening.text, SECTION)
    link = written(opening.link, URL) if opening.link.startswith("https://") else ""
    return Rendered(
        text=_fallback([title, text, link]),
        blocks=[
            section(f"*{title}*"),
            *([context([part for part in (text, link) if part])] if text or link else []),
        ],
    )


_CHANNEL = re.compile(r"\bslack:(C[A-Z0-9]+)\b")
"""A place as policy names it: people see its name."""


def _card(card: Card, *, rich: bool, tickets: bool) -> Rendered:
    title = written_line(card.title, TITLE) or "Errand"
    places = [_CHANNEL.sub(r"<#\1>", written_line(place, LINE)) for place in card_places(card)]
    state = written_line(f"{state_sign(card)} {' · '.join(state_facts(card))}", LINE)
    steps = _steps(card.steps)
    top = section("\n".join([" · ".join([f"*{title}*", *places]), state]))
    doing = written_line(card.doing, LINE)
    below = [line for line in (doing, STOP_HINT if card.live else "") if line]
    plan = [_plan(card)] if rich else [section("\n".join(steps))]
    return Rendered(
        text=_fallback([title, *places, state, *steps, *below]),
        blocks=[
            top,
            *(plan if steps else []),
            *([context(below)] if below else []),
            _controls(card, tickets=tickets),
        ],
    )


def _controls(card: Card, *, tickets: bool) -> Block:
    stop = button("Stop", f"{names.SAY}.stop", value="stop", style="danger")
    details = button("Details", names.DETAILS, value=names.DETAILS)
    issue = button("Create issue", f"{names.SAY_ONCE}.ticket", value="create issue")
    return actions(
        [*([stop] if card.live else []), details, *([issue] if tickets and card.live else [])]
    )


_STATUSES = {
    StepState.PENDING: "pending",
    StepState.RUNNING: "in_progress",
    StepState.DONE: "complete",
    StepState.FAILED: "error",
}


def _plan(card: Card) -> Block:
    """The steps as Slack's own list of tasks, where the workspace has that."""
    done = sum(step.state is StepState.DONE for step in card.steps)
    tasks = [
        {
            "type": "task_card",
            "task_id": f"step-{number}",
            "title": plain_line(step.title, STEP),
            "status": _STATUSES[step.state],
        }
        for number, step in enumerate(_kept(card.steps))
    ]
    return {"type": "plan", "title": f"{done} of {len(card.steps)} steps", "tasks": tasks}


def _kept(steps: Sequence[Step]) -> list[Step]:
    """As `_steps`: what is done is folded first, then what is furthest away."""
    if len(steps) <= MAX_STEPS:
        return list(steps)
    done = [i for i, step in enumerate(steps) if step.state is StepState.DONE]
    folded = set(done[: len(steps) - MAX_STEPS])
    return [step for i, step in enumerate(steps) if i not in folded][:MAX_STEPS]


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
    if question.chosen:
        chosen = written_line(question.chosen, OPTION)
        return Rendered(
            text=_fallback([_written(question.text), f"→ {chosen}"]),
            blocks=[*_sections(question.text), context([f"→ *{chosen}*"])],
        )
    options = [f"• {written_line(o.label, OPTION)}" for o in question.options[:LISTED]]
    if len(question.options) > LISTED:
        options.append(f"• {len(question.options) - LISTED} more")
    called = question.calls if question.calls.startswith("slack:") else ""
    whose = person(question.to or called) if question.to or called else ""
    hint = (
        f"{whose}: choose, or reply in this thread" if whose else "choose, or reply in this thread"
    )
    return Rendered(
        text=_fallback([_written(question.text), *options, whose]),
        blocks=[
            *_sections(question.text),
            *([section("\n".join(options))] if not _clickable(question) and options else []),
            *_choices(question),
            context([hint]),
        ],
    )


def _clickable(question: Question) -> bool:
    return all(len(o.words) <= BUTTON_VALUE and o.words for o in question.options)


def _choices(question: Question) -> list[Block]:
    """Buttons for the likeliest, and a list to search in for all of them where there are more."""
    told = [o for o in question.options if o.words and len(o.words) <= BUTTON_VALUE]
    buttons = [
        button(o.label, f"{names.SAY_ONCE}.{n}", value=o.words)
        for n, o in enumerate(told[:BUTTONS])
    ]
    listed = [o for o in told if len(o.words) <= OPTION_VALUE][:OPTIONS]
    if len(told) > BUTTONS and listed:
        menu = select(names.CHOOSE, [option(o.label, o.words) for o in listed])
        buttons.append({**menu, "placeholder": plain_text("Others", BUTTON_TEXT)})
    return [actions(buttons)] if buttons else []


def _final(final: Final, *, rich: bool) -> Rendered:
    tail = code_block(final.tail, SECTION)
    facts = _facts(final)
    first, *rest = _texts(from_markdown(final.text)) or [""]
    head = f"*{outcome(final)}*" + (f": {first}" if first else "")
    label = written_line(pull_words(final), LINE)
    link = [f"{label}: {written(final.pull_url, URL)}"] if is_address(final.pull_url) else []
    return Rendered(
        text=_fallback(
            [f"{outcome(final)}: {_written(from_markdown(final.text))}", *facts, *link, tail]
        ),
        attachment=_too_long(final),
        blocks=[
            *map(section, [head, *rest]),
            *([section(tail)] if tail else []),
            *([context([" · ".join(facts)])] if facts else []),
            *_ending(final, rich=rich),
        ],
    )


def _too_long(final: Final) -> str:
    """Output and words of which the message shows a part only."""
    parts = [(final.text, LONG_TEXT), (final.tail, SECTION - 100)]
    return "\n\n".join(defuse(text) for text, room in parts if len(text) > room)


def _ending(final: Final, *, rich: bool) -> list[Block]:
    """What can be done now, and how one liked it."""
    buttons: list[Block] = []
    if is_address(final.pull_url):
        buttons.append(link_button(pull_words(final), final.pull_url, "pull", primary=True))
    if final.outcome in {"failed", "stopped"}:
        buttons.append(button("Retry", f"{names.SAY_ONCE}.retry", value="retry"))
    buttons.append(button("Details", names.DETAILS, value=names.DETAILS))
    if final.outcome == "stopped":
        return [actions(buttons)]
    if rich:
        return [actions(buttons), _feedback()]
    good, bad = (
        button(sign, f"{names.RATE}.{value}", value=value)
        for sign, value in (("👍", "good"), ("👎", "bad"))
    )
    return [actions([*buttons, good, bad])]


def _feedback() -> Block:
    good, bad = (
        {"text": plain_text(label, BUTTON_TEXT), "value": value, "accessibility_label": label}
        for label, value in (("Good", "good"), ("Not good", "bad"))
    )
    element = {
        "type": "feedback_buttons",
        "action_id": names.RATE,
        "positive_button": good,
        "negative_button": bad,
    }
    return {"type": "context_actions", "elements": [element]}


def _facts(final: Final) -> list[str]:
    facts = final_facts(final)
    checks = [_check(check) for check in facts.checks]
    more = [f"{facts.hidden} more checks"] if facts.hidden else []
    whose = final.person if final.person.startswith("slack:") else facts.asked_by
    asked = [f"asked by {person(whose)}"] if whose else []
    return [part for part in (facts.changes, *checks, *more, facts.cost, *asked) if part]


def _check(check: Check) -> str:
    return f"{code(check.command, STEP)} {'passed' if check.passed else 'failed'}"


def _texts(text: str) -> list[str]:
    """Room for a heading stays free in the first."""
    return pages(text, page=SECTION - 100, total=LONG_TEXT)


def _sections(text: str) -> list[Block]:
    return [section(page) for page in _texts(text) or ["…"]]


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
