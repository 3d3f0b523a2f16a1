"""Replies as lines for a terminal: pure."""

from collections.abc import Iterator
from typing import assert_never

from integrations.channel import Card, Check, Final, Notice, Question, Reply
from integrations.wording import (
    STEP_SIGNS,
    STOP_HINT,
    card_places,
    clean,
    final_facts,
    one_line,
    outcome,
    pull_words,
    state_facts,
    state_sign,
)

TAIL_LINES = 20


def lines(reply: Reply) -> list[str]:
    """A reply in full."""
    match reply:
        case Card():
            return list(_card(reply))
        case Notice():
            return clean(f"⚠ {reply.text}" if reply.error else reply.text).splitlines()
        case Question():
            options = [f"  • {one_line(option.label)}" for option in reply.options]
            return [*clean(reply.text).splitlines(), *options]
        case Final():
            return list(_final(reply))
        case _:
            assert_never(reply)


def changes(old: Reply, new: Reply) -> list[str]:
    """What a new form of a reply adds to what is already on the screen."""
    if isinstance(new, Question) and new.chosen:
        return []  # it was typed just now
    if not isinstance(old, Card) or not isinstance(new, Card):
        return lines(new) if lines(new) != lines(old) else []
    said = set(_steps(old))
    # A first plan is news as a whole; later only what moves is.
    news = "✓✗▸" if said else "✓✗▸○"
    return [
        *([_state(new)] if new.state != old.state else []),
        *(step for step in _steps(new) if step not in said and step[0] in news),
        *([f"  {one_line(new.doing)}"] if new.doing and new.doing != old.doing else []),
    ]


def _card(card: Card) -> Iterator[str]:
    yield " · ".join([one_line(card.title), *map(one_line, card_places(card))])
    yield _state(card)
    yield from _steps(card)
    if card.doing:
        yield f"  {one_line(card.doing)}"


def _state(card: Card) -> str:
    hint = [STOP_HINT] if card.live else []
    return one_line(" · ".join([f"{state_sign(card)} {card.state}", *state_facts(card)[1:], *hint]))


def _steps(card: Card) -> list[str]:
    return [f"{STEP_SIGNS[step.state]} {one_line(step.title)}" for step in card.steps]


def _final(final: Final) -> Iterator[str]:
    text = clean(final.text).strip().splitlines()
    yield f"{outcome(final)}: {text[0]}" if text else outcome(final)
    yield from text[1:]
    for line in clean(final.tail).splitlines()[-TAIL_LINES:]:
        yield f"  │ {line}"
    if facts := " · ".join(_facts(final)):
        yield facts
    if final.pull_url:
        yield f"{pull_words(final)}: {one_line(final.pull_url)}"


def _facts(final: Final) -> list[str]:
    facts = final_facts(final)
    checks = [_check(check) for check in facts.checks]
    more = [f"{facts.hidden} more checks"] if facts.hidden else []
    asked = [f"asked by {one_line(facts.asked_by)}"] if facts.asked_by else []
    return [part for part in (facts.changes, *checks, *more, facts.cost, *asked) if part]


def _check(check: Check) -> str:
    return f"`{one_line(check.command)}` {'passed' if check.passed else 'failed'}"
