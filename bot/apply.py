"""Events become truth: applied once each, only for the current fence, acknowledged after COMMIT."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import questions
from bot.account import account
from bot.approvals import ask_about
from bot.bus import Bus
from bot.in_force import InForce
from bot.intake import Signal, utc_now
from bot.metrics import Metrics
from bot.progress import View, advance, final
from bot.record import record
from bot.said import show_card
from bot.states import IN_SANDBOX, MAX_ATTEMPTS, TERMINAL, TaskState
from bot.store import commands, events, runs, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreRefusedError
from bot.store.rows import RunRow, TaskRow
from bot.tasks import end_round
from runner.errors import UnknownRunError
from runner.protocol import (
    Brokered,
    CommandSeen,
    Egress,
    EventRecord,
    Finished,
    Question,
    QuestionClosed,
    Remark,
    RunKey,
    Started,
    Traffic,
)

log = structlog.get_logger()
Entries = dict[str, EventRecord]
"""By their ids in the stream."""

BATCH = 200
BLOCK_MS = 1000
RETRY_SECONDS = 1.0
AGAIN_SECONDS = 60.0
"""Until what was refused is tried again."""
TRIES = 3
"""So often what comes after a refused event waits for it; then its run, and the end of it, goes on without."""


class EventsRefusedError(Exception):
    """Applying them breaks, and would the next time; nothing of them was applied."""


REFUSED = (StoreRefusedError, EventsRefusedError)


@dataclass(slots=True, kw_only=True)
class _Trouble:
    """Of a run: something was refused."""

    entries: set[str]
    """Left in the stream: what was refused, and what waits for it."""
    tries: int
    again_at: datetime


@dataclass(slots=True, kw_only=True)
class Applier:
    """Reads the event stream into SQL. May run several times over: each event counts once."""

    store: Store
    bus: Bus
    in_force: InForce
    spoken: Signal
    finished: Signal
    queued: Signal
    now: Callable[[], datetime] = utc_now
    metrics: Metrics = field(default_factory=Metrics)
    _troubles: dict[RunKey, _Trouble] = field(default_factory=dict)

    async def run(self) -> None:
        """Apply until cancelled; events that a predecessor took and did not finish come first."""
        pending = True
        pause = Signal()
        while True:
            try:
                taken = await self.step(pending=pending or self._is_due())
                pending = pending and taken > 0
            except (StoreError, RedisError, OSError) as error:
                log.warning("apply_failed", error=repr(error))
                pending = True
                await pause.wait(RETRY_SECONDS)

    def _is_due(self) -> bool:
        return any(trouble.again_at <= self.now() for trouble in self._troubles.values())

    def _left(self) -> int:
        return sum(len(trouble.entries) for trouble in self._troubles.values())

    async def step(self, *, pending: bool) -> int:
        """Apply one batch; the number of stream entries that are done with, or newly left for later."""
        left = self._left()
        if pending:  # after an outage, which may have taken the stream along
            await self.bus.prepare_events()
        count = BATCH + left if pending else BATCH
        delivered = await self.bus.events(count=count, block_ms=BLOCK_MS, pending=pending)
        by_run: dict[RunKey, Entries] = defaultdict(dict)
        settled: list[str] = []
        for entry in delivered:
            if entry.record is None:
                log.error("event_unreadable", entry=entry.id)
                settled.append(entry.id)
            else:
                by_run[entry.record.run][entry.id] = entry.record
        if pending:  # all that was left is among it, unless Redis has lost it
            self._troubles = {run: it for run, it in self._troubles.items() if run in by_run}
        for run, entries in by_run.items():
            settled += await self._settle(run, entries, pending=pending)
        await self.bus.applied(settled)
        if delivered:
            self.spoken.set()
        return len(settled) + max(0, self._left() - left)

    async def _disown(self, run: RunKey) -> None:
        """SQL is behind: it was restored from a copy. What runs is not ours to end without a person's word."""
        log.error("run_unknown", run=str(run), hint="errand aside list")
        await self.bus.disown(run)

    async def _settle(self, run: RunKey, entries: Entries, *, pending: bool) -> list[str]:
        """Apply entries of one run; the ids of those that are done with.

        What is refused stays in the stream, as the fault may be ours, and is tried again. It holds up no other
        run, and its own not for ever.
        """
        trouble = self._troubles.get(run)
        if trouble is not None and not (pending and trouble.again_at <= self.now()):
            fresh = {i: record for i, record in entries.items() if i not in trouble.entries}
            waits = trouble.tries < TRIES
            done = [] if waits else await self._in_order(run, fresh, tries=trouble.tries)
            trouble.entries |= entries.keys() - set(done)
            return done
        tries = trouble.tries + 1 if trouble else 1
        done = await self._in_order(run, entries, tries=tries)
        self._troubles.pop(run, None)
        if left := entries.keys() - set(done):
            again_at = self.now() + timedelta(seconds=AGAIN_SECONDS)
            self._troubles[run] = _Trouble(entries=left, tries=tries, again_at=again_at)
        return done

    async def _in_order(
        self, run: RunKey, entries: Entries, *, tries: int, size: int = BATCH
    ) -> list[str]:
        """The ids of those that were applied: up to one that is refused, or all others if it had its tries."""
        ids, done = list(entries), list[str]()
        for first in range(0, len(ids), size):
            part = {i: entries[i] for i in ids[first : first + size]}
            done += await self._together(run, part, tries=tries)
            if len(done) < first + len(part) and tries < TRIES:
                break
        return done

    async def _together(self, run: RunKey, entries: Entries, *, tries: int) -> list[str]:
        """What is refused with others is tried alone."""
        records = list(entries.values())
        try:
            over = await self.apply(run, records)
        except UnknownRunError:
            await self._disown(run)
            return list(entries)
        except REFUSED:
            if len(entries) > 1:
                return await self._in_order(run, entries, tries=tries, size=1)
            log.exception("event_refused", run=str(run), entry=next(iter(entries)), tries=tries)
            self.metrics.loop_failures.labels("apply").inc()
            return []
        for source in {r.source for r in records}:
            newest = max(r.seq for r in records if r.source == source)
            await self.bus.acknowledge(run, source, newest)
        if over:
            await self.bus.release(run)
        return list(entries)

    async def apply(self, run: RunKey, records: list[EventRecord]) -> bool:
        """Apply events of one run, in one transaction; True if the run needs its sandbox no more.

        `UnknownRunError`, or one of `REFUSED` if it would be raised again.
        """
        now = self.now()
        async with self.store.begin() as tx:
            try:
                new, row, over = await self._apply(tx, run, records, now)
            except (UnknownRunError, SQLAlchemyError, OSError):
                raise
            except Exception as error:  # whatever it was: it is this run's alone
                raise EventsRefusedError(str(run)) from error
        if row is not None:
            account(self.metrics, row, new)
        if over:
            self.finished.set()
            self.queued.set()
        return over

    async def _apply(
        self, tx: AsyncConnection, run: RunKey, records: list[EventRecord], now: datetime
    ) -> tuple[list[EventRecord], RunRow | None, bool]:
        """What was new, the run if it is the current one, and whether it is over."""
        task = await tasks.get(tx, run.task)
        if task is None or run.fence > task.fence:
            raise UnknownRunError(str(run))
        fresh = await events.insert_many(tx, records, now=now)
        new = [r for r, is_new in zip(records, fresh, strict=True) if is_new]
        if task.fence != run.fence:
            await self._note_stale(tx, run, new, now)
            return new, None, False
        row = await runs.get(tx, run.task, run.fence)
        if row is None:
            raise LookupError(str(run))
        await self._fold(tx, row, new)
        for item in new:
            await self._effect(tx, item, now)
        after = await tasks.get(tx, run.task)
        live = after is not None and after.state in IN_SANDBOX
        if new and after is not None and live:
            await show_card(tx, after, now=now)
        return new, await runs.get(tx, run.task, run.fence) or row, not live

    async def _note_stale(
        self, tx: AsyncConnection, run: RunKey, new: list[EventRecord], now: datetime
    ) -> None:
        if new:
            await record(
                tx, now=now, actor="apply", action="stale_events", task=run.task, fence=run.fence,
                events=len(new),
            )  # fmt: skip

    async def _fold(self, tx: AsyncConnection, row: RunRow, new: list[EventRecord]) -> None:
        view = View.model_validate(row.view)
        for item in new:
            view = advance(view, item.event)
        if new:
            await runs.update(tx, row.task, row.fence, view=view.model_dump(mode="json"))

    async def _effect(self, tx: AsyncConnection, item: EventRecord, now: datetime) -> None:
        match item.event:
            case Started() as started:
                await self._started(tx, item, started, now)
            case CommandSeen(command=command):
                await self._seen(tx, item.run.task, command)
            case Egress() as egress:
                await self._put_on_record(tx, item, egress)
                await self._ask(tx, item, egress, now)
            case Brokered() as brokered:
                await record(
                    tx,
                    now=item.at,
                    actor="broker",
                    action="command",
                    task=item.run.task,
                    decision=brokered.verdict,
                    fence=item.run.fence,
                    **brokered.model_dump(mode="json", exclude={"kind", "verdict"}),
                )
            case Traffic() | Remark() as told:
                await self._put_on_record(tx, item, told)
            case Question() | QuestionClosed() as about:
                await self._question(tx, item.run, about, now)
            case Finished() as finished:
                await self._finished(tx, item, finished, now)
            case _:
                pass

    async def _put_on_record(
        self, tx: AsyncConnection, item: EventRecord, told: Egress | Traffic | Remark
    ) -> None:
        await record(
            tx,
            now=item.at,
            actor=item.source if isinstance(told, Remark) else "gateway",
            action=told.kind,
            task=item.run.task,
            decision=told.verdict if isinstance(told, Egress) else "",
            fence=item.run.fence,
            **told.model_dump(exclude={"kind", "verdict"}),
        )

    async def _ask(
        self, tx: AsyncConnection, item: EventRecord, denied: Egress, now: datetime
    ) -> None:
        task = await tasks.get(tx, item.run.task)
        if denied.verdict == "deny" and task is not None and task.state in IN_SANDBOX:
            await ask_about(tx, self.in_force.policy, task, denied, now=now)

    async def _question(
        self, tx: AsyncConnection, run: RunKey, about: Question | QuestionClosed, now: datetime
    ) -> None:
        task = await tasks.get(tx, run.task)
        if task is None or task.state not in IN_SANDBOX:
            return
        if isinstance(about, Question):
            await questions.put(tx, task, about, fence=run.fence, now=now)
        else:
            await questions.close(tx, task, about, fence=run.fence, now=now)

    async def _started(
        self, tx: AsyncConnection, item: EventRecord, started: Started, now: datetime
    ) -> None:
        await runs.update(
            tx, item.run.task, item.run.fence, started_at=item.at,
            **started.model_dump(exclude={"kind"}),
        )  # fmt: skip
        await tasks.move(
            tx, item.run.task, to=TaskState.RUNNING, old=[TaskState.STARTING], fence=item.run.fence,
            changed_at=now,
        )  # fmt: skip

    async def _seen(self, tx: AsyncConnection, task_id: str, command: str) -> None:
        """The run knows it; so must the next one, should this one be lost."""
        task = await tasks.get(tx, task_id)
        said = [c for c in await commands.open_for(tx, task_id) if c.kind in {"steer", "answer"}]
        for word in map(questions.as_word, said):
            if task is not None and word.id == command:
                await tasks.update(tx, task_id, prompt=f"{task.prompt}\n\n{word.text}")
        await commands.finish(tx, command)

    async def _finished(
        self, tx: AsyncConnection, item: EventRecord, finished: Finished, now: datetime
    ) -> None:
        run, task = item.run, await tasks.get(tx, item.run.task)
        if task is None or task.state not in IN_SANDBOX:
            return
        await runs.update(
            tx, run.task, run.fence, ended_at=item.at, outcome=finished.outcome,
            reason=finished.reason,
        )  # fmt: skip
        await questions.drop(tx, task, now=now)
        task = await _ready_to_end(tx, task, finished, now)
        to = _next_state(task, finished)
        over = to in TERMINAL
        await tasks.move(
            tx, task.id, to=to, old=[task.state], fence=run.fence, changed_at=now,
            ended_at=now if over else None, reason=finished.reason,
        )  # fmt: skip
        await record(
            tx, now=now, actor="apply", action="run_finished", task=task.id,
            decision=finished.outcome, fence=run.fence, changed=finished.changed,
            head=finished.head,
        )  # fmt: skip
        if over:
            await self._say_end(tx, task, run, finished, now)
        elif fresh := await tasks.get(tx, task.id):
            await show_card(tx, fresh, now=now)

    async def _say_end(
        self, tx: AsyncConnection, task: TaskRow, run: RunKey, finished: Finished, now: datetime
    ) -> None:
        row = await runs.get(tx, run.task, run.fence)
        view = View.model_validate(row.view) if row else View()
        if task.state is TaskState.STOPPING:
            why = finished.reason if finished.outcome == "stopped" else ""
            finished = finished.model_copy(update={"outcome": "stopped", "reason": why})
        seconds = row.elapsed_seconds(now) if row else 0
        await end_round(tx, task.id, final(task, view, finished, elapsed_seconds=seconds), now=now)


async def _ready_to_end(
    tx: AsyncConnection, task: TaskRow, finished: Finished, now: datetime
) -> TaskRow:
    """Make up for a move that should have come before: the word of it was lost, or nobody had asked for it."""
    for old, to in (
        (TaskState.STARTING, TaskState.RUNNING),
        (TaskState.WAITING, TaskState.RUNNING),
        (TaskState.RUNNING, TaskState.STOPPING if finished.outcome == "stopped" else None),
    ):
        if task.state is old and to is not None:
            await tasks.move(tx, task.id, to=to, old=[old], fence=task.fence, changed_at=now)
            task = task.model_copy(update={"state": to})
    return task


def _next_state(task: TaskRow, finished: Finished) -> TaskState:
    if task.state is TaskState.STOPPING:
        return TaskState.KEEPING if finished.changed else TaskState.STOPPED
    again = finished.infrastructure and task.attempts < MAX_ATTEMPTS
    return {
        "done": TaskState.PUBLISHING if finished.changed else TaskState.SUCCEEDED,
        "failed": TaskState.QUEUED if again else TaskState.FAILED,
        "stopped": TaskState.STOPPED,
        "expired": TaskState.EXPIRED,
    }[finished.outcome]
