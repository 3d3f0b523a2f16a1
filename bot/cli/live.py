"""Views that renew themselves until they are no longer needed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bot.cli.output import out
from bot.overview import Overview
from bot.progress import STATE_WORDS
from integrations.wording import one_line

T = TypeVar("T")
SHORT = 8


async def keep_looking(
    look: Callable[[], Awaitable[T]],
    tell: Callable[[T], None],
    *,
    seconds: float,
    over: Callable[[T], bool],
) -> T:
    """Look again and again, and tell of it, until it is over."""
    while True:
        seen = await look()
        tell(seen)
        if over(seen):
            return seen
        await asyncio.sleep(seconds)


async def keep_showing(
    look: Callable[[], Awaitable[T]],
    draw: Callable[[T], RenderableType],
    *,
    seconds: float,
    over: Callable[[T], bool],
) -> T:
    """One picture, drawn anew until it is over. Without a terminal it is drawn once, at the end."""
    if not out.is_terminal:
        seen = await keep_looking(look, lambda _: None, seconds=seconds, over=over)
        out.print(draw(seen))
        return seen
    with Live(console=out, auto_refresh=False) as live:
        return await keep_looking(
            look, lambda seen: live.update(draw(seen), refresh=True), seconds=seconds, over=over
        )


def overview_text(seen: Overview) -> RenderableType:
    return Group(_summary(seen), _hosts(seen), _tasks(seen))


def _summary(seen: Overview) -> Text:
    parts = [
        f"{seen.at:%H:%M:%S} UTC",
        f"{len(seen.tasks)} under way",
        f"{seen.queued} queued",
        f"inbox {seen.inbox}",
        f"outbox {seen.outbox}",
        f"dead {seen.dead}",
        *(f"{name} stands still: its credential is refused" for name in seen.stopped),
    ]
    return Text(" · ".join(parts), style="bold")


def _hosts(seen: Overview) -> RenderableType:
    if seen.hosts is None:
        return Text("hosts: Redis can't be reached from here", style="dim")
    if not seen.hosts:
        return Text("no host is at work: start `errand work`")
    shown = [
        f"{h.host} {h.slots - h.free}/{h.slots}" + (" draining" if h.draining else "")
        for h in seen.hosts
    ]
    return Text(f"hosts: {', '.join(shown)}")


def _tasks(seen: Overview) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "state", "for", "host", "cost", "repo", "asked by", "doing"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for e in seen.tasks:
        cells = (
            e.task[-SHORT:],
            STATE_WORDS[e.state],
            span((seen.at - e.since).total_seconds()),
            e.host or "-",
            "" if e.cost_usd is None else f"${e.cost_usd:.2f}",
            e.repo,
            e.asked_by,
            e.doing or e.title,
        )
        table.add_row(*(escape(one_line(cell)) for cell in cells))
    return table


def span(seconds: float) -> str:
    """How long, in few letters."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
