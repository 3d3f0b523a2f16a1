"""`errand task watch`: one task, live."""

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from bot.cli.live import keep_looking, keep_showing, span
from bot.cli.narrate import narrated
from bot.intake import utc_now
from bot.progress import STATE_WORDS, View
from bot.states import TERMINAL
from bot.store import events, runs, tasks
from bot.store.engine import Store
from bot.store.rows import EventRow, RunRow, TaskRow
from integrations.channel import StepState
from integrations.wording import clean, one_line
from runner.protocol import EventRecord

SECONDS = 0.5
LAST_LINES = 12
KEPT = 300
SIGNS = {
    StepState.DONE: "✓",
    StepState.RUNNING: "▸",
    StepState.FAILED: "✗",
    StepState.PENDING: "○",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    at: datetime
    task: TaskRow
    run: RunRow | None
    new: Sequence[EventRecord]
    """Since the look before."""
    latest: Sequence[EventRecord]

    @property
    def over(self) -> bool:
        return self.task.state in TERMINAL


@dataclass(slots=True)
class Watch:
    """Looks at one task; each event is new once."""

    store: Store
    task: str
    _since: datetime | None = None
    _known: set[tuple[int, str, int]] = field(default_factory=set)
    """Keys of those that were stored at that time."""
    _latest: deque[EventRecord] = field(default_factory=lambda: deque(maxlen=KEPT))

    async def live(self) -> Seen:
        """For people: one view, renewed until the task has ended."""
        return await keep_showing(self.look, view_text, seconds=SECONDS, over=lambda s: s.over)

    async def lines(self) -> Seen:
        """For programs: an event a line, as JSON, as they come."""
        return await keep_looking(self.look, _write, seconds=SECONDS, over=lambda s: s.over)

    async def look(self) -> Seen:
        async with self.store.read() as conn:
            task = await tasks.get(conn, self.task)
            if task is None:
                raise LookupError(self.task)
            run = await runs.newest(conn, task)
            stored = await events.of_task(conn, task.id, stored_since=self._since)
        new = [row for row in stored if _key(row) not in self._known]
        if new:
            self._since = max(row.stored_at for row in new)
            self._known = {_key(row) for row in stored if row.stored_at == self._since}
        records = [row.record for row in new]
        self._latest.extend(records)
        return Seen(at=utc_now(), task=task, run=run, new=records, latest=[*self._latest])


def _key(row: EventRow) -> tuple[int, str, int]:
    return row.record.run.fence, row.record.source, row.record.seq


def _write(seen: Seen) -> None:
    for record in seen.new:
        sys.stdout.write(record.model_dump_json() + "\n")
    sys.stdout.flush()


def view_text(seen: Seen) -> RenderableType:
    task, run = seen.task, seen.run
    view = View.model_validate(run.view) if run and run.view else View()
    began = (run.started_at if run else None) or task.changed_at
    until = task.ended_at or seen.at
    facts = [STATE_WORDS[task.state], span((until - began).total_seconds())]
    facts += [run.host] if run and run.host else []
    facts += [] if view.cost_usd is None else [f"${view.cost_usd:.2f}"]
    lines = [
        Text(
            one_line(f"{task.title} · {task.repo} · {view.agent or 'no agent yet'}"), style="bold"
        ),
        Text(" · ".join(facts)),
        *(Text(f"{SIGNS[step.state]} {one_line(step.title)}") for step in view.plan),
        *(Text(line, style="dim") for line in [*narrated(seen.latest)][-LAST_LINES:]),
    ]
    if seen.over and (task.reason or task.pull_url):
        lines.append(Text(clean(task.reason or task.pull_url), style="bold"))
    return Group(*lines)
