import asyncio
from collections.abc import AsyncIterator
from io import StringIO

import pytest
from rich.console import Console

from integrations.channel import (
    Card,
    Check,
    Final,
    Inbound,
    Mark,
    Notice,
    Option,
    Question,
    Step,
    StepState,
)
from integrations.console.channel import ConsoleChannel

CARD = Card(
    task="01J",
    title="Fix the flaky login test",
    repo="acme/web",
    repo_reason="default of terminal",
    agent="script",
    state="queued",
    live=True,
)


class Terminal:
    """A console channel, what it shows and what it hands in."""

    def __init__(self, *typed: str) -> None:
        self.screen = StringIO()
        self.received: list[Inbound] = []
        self.channel = ConsoleChannel(
            out=Console(file=self.screen, width=80), user="dana", lines=_lines(typed)
        )

    async def receive(self, inbound: Inbound) -> bool:
        self.received.append(inbound)
        return True

    def shown(self) -> list[str]:
        """The lines shown since the last look."""
        text = self.screen.getvalue()
        self.screen.seek(0)
        self.screen.truncate()
        return [line.rstrip() for line in text.splitlines() if line]


async def _lines(typed: tuple[str, ...]) -> AsyncIterator[str]:
    for line in typed:
        yield line + "\n"


def steps(**states: StepState) -> tuple[Step, ...]:
    return tuple(Step(title=title, state=state) for title, state in states.items())


async def test_the_first_line_starts_a_conversation_and_others_go_on_in_it() -> None:
    terminal = Terminal("fix the test", "", "also the docs", "/new", "another", "/new third")
    await terminal.channel.listen(terminal.receive)

    assert [inbound.text for inbound in terminal.received] == [
        "fix the test", "also the docs", "another", "third",
    ]  # fmt: skip
    first, second, third, fourth = (inbound.conversation for inbound in terminal.received)
    assert first == second
    assert len({first.key, third.key, fourth.key}) == 3
    assert first.where == "console:terminal"


async def test_every_line_is_addressed_and_unique() -> None:
    terminal = Terminal("same", "same")
    await terminal.channel.listen(terminal.receive)

    assert all(inbound.addressed for inbound in terminal.received)
    assert {inbound.author for inbound in terminal.received} == {"console:dana"}
    assert len({inbound.event_id for inbound in terminal.received}) == 2
    assert len({inbound.semantic_key for inbound in terminal.received}) == 2


async def test_a_card_is_shown_once_and_then_what_changes() -> None:
    terminal = Terminal()
    conversation = await terminal.channel.say("fix it", terminal.receive)
    posted = await terminal.channel.post(conversation, CARD, key="k")
    assert terminal.shown() == [
        "Fix the flaky login test · acme/web (default of terminal) · script",
        "● queued · reply `stop` to stop",
    ]

    plan = steps(look=StepState.RUNNING, fix=StepState.PENDING)
    working = CARD.model_copy(update={"state": "working", "steps": plan, "doing": "reading"})
    await terminal.channel.edit(conversation, posted, working)
    assert terminal.shown() == [
        "● working · reply `stop` to stop", "▸ look", "○ fix", "  reading",
    ]  # fmt: skip

    later = working.model_copy(update={"elapsed_seconds": 70, "cost_usd": 0.31})
    await terminal.channel.edit(conversation, posted, later)
    assert terminal.shown() == []

    plan = steps(look=StepState.DONE, fix=StepState.FAILED)
    ended = later.model_copy(update={"state": "failed", "live": False, "steps": plan, "doing": ""})
    await terminal.channel.edit(conversation, posted, ended)
    assert terminal.shown() == ["✗ failed · 1 min 10 s · $0.31", "✓ look", "✗ fix"]


async def test_a_final_can_be_read_and_waited_for() -> None:
    terminal = Terminal()
    conversation = await terminal.channel.say("fix it", terminal.receive)
    final = Final(
        outcome="succeeded",
        text="It waits for the cookie now.",
        tail="",
        pull_url="http://127.0.0.1:8400/acme/web/pulls/1",
        pull_label="#1",
        files=1,
        added=14,
        removed=3,
        checks=tuple(Check(command=f"check {n}", passed=n != 6) for n in range(7)),
        elapsed_seconds=3661,
        cost_usd=0.001,
        asked_by="dana",
    )
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(terminal.channel.ended(conversation))
        await terminal.channel.post(conversation, final, key="f")
    assert waiting.result() == final
    text = " ".join(terminal.shown())
    assert text.startswith("Done in 1 h 01 min: It waits for the cookie now. 1 file, +14 ")
    assert "`check 6` failed" in text
    assert "2 more checks · <$0.01 · asked by dana" in text
    assert text.endswith("Open pull request #1: http://127.0.0.1:8400/acme/web/pulls/1")


async def test_a_mark_is_shown_once() -> None:
    terminal = Terminal()
    conversation = await terminal.channel.say("fix it", terminal.receive)
    for _ in range(2):
        await terminal.channel.mark(conversation, "1", Mark.SEEN, present=True)
    await terminal.channel.mark(conversation, "1", Mark.SEEN, present=False)
    assert terminal.shown() == ["👀"]


async def test_untrusted_text_can_neither_style_nor_steer_the_terminal() -> None:
    terminal = Terminal()
    conversation = await terminal.channel.say("fix it", terminal.receive)
    hostile = "[red]x[/red] \x1b[2J\x1b]0;title\x07\x9b31m\x00 [link=http://evil.example]y[/link]"
    for reply in (
        Notice(text=hostile, error=True),
        Question(text=hostile, options=(Option(label=hostile, words=hostile),)),
        CARD.model_copy(update={"title": hostile, "doing": hostile}),
        Final(outcome="failed", text=hostile, tail=hostile),
    ):
        await terminal.channel.post(conversation, reply, key="k")
    text = terminal.screen.getvalue()
    assert "[red]x[/red]" in text
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text)
    assert "\x9b" not in text
    assert "title\x07" not in text


@pytest.mark.parametrize("text", ["a", "a " * 400, "x" * 400])
async def test_nothing_is_wider_than_the_terminal(text: str) -> None:
    terminal = Terminal()
    conversation = await terminal.channel.say("fix it", terminal.receive)
    await terminal.channel.post(conversation, CARD.model_copy(update={"title": text}), key="k")
    assert max(map(len, terminal.screen.getvalue().splitlines())) <= 80


async def test_without_lines_listening_ends_at_once() -> None:
    channel = ConsoleChannel(out=Console(file=StringIO()), user="dana")
    await channel.listen(Terminal().receive)
    assert await channel.check() == []
    assert channel.routes(Terminal().receive) is None
