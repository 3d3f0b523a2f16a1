"""`serve` in parts: each class as it ships, on a real database, beside a channel in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import text

from bot.completion import Completer
from bot.desk import Desk
from bot.in_force import InForce
from bot.intake import Intake, Signal
from bot.outbox import Outbox
from bot.pages import PageLinks
from bot.rate_limits import Buckets
from bot.standing import Standing
from bot.states import TaskState
from bot.store import audit, commands, outbox, runs, tasks
from bot.store.engine import Store
from bot.store.rows import AuditRow, CommandRow, OutboxRow, RunRow, TaskRow
from bot.vigil import Vigil
from integrations.channel import Card, Channel, Final, Inbound, Mark, Notice, Question, Reply
from integrations.testing import FakeChannel
from policies.model import Policy
from tests.support.builders import POLICY, a_conversation, an_inbound

R = TypeVar("R", bound=Reply)
HERE = a_conversation()
FINAL_MARKS = {Mark.DONE, Mark.FAILED, Mark.STOPPED}


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


async def send_due(sender: Outbox) -> int:
    """Send what is due, one message per conversation, and wait for it; how many were tried."""
    rows = await sender.claim()
    async with asyncio.TaskGroup() as calls:
        for row in rows:
            calls.create_task(sender.deliver(row))
    return len(rows)


async def complete_due(completer: Completer) -> int:
    """Complete what is due, and wait for it; how many deliveries are whole now."""
    async with asyncio.TaskGroup() as calls:
        settled = [calls.create_task(completer.settle(row)) for row in await completer.take()]
    return sum(one.result() for one in settled)


@dataclass(slots=True, kw_only=True)
class Office:
    """Everything of `serve` that needs neither Redis nor a forge."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    channel: FakeChannel = field(default_factory=lambda: FakeChannel(names={"fake:dana": "Dana"}))
    elsewhere: FakeChannel = field(default_factory=lambda: FakeChannel(name="other"))
    """A second channel, and tracker."""
    policy: Policy = POLICY
    arrived: Signal = field(default_factory=Signal)
    queued: Signal = field(default_factory=Signal)
    spoken: Signal = field(default_factory=Signal)
    commanded: Signal = field(default_factory=Signal)
    finished: Signal = field(default_factory=Signal)
    intake: Intake = field(init=False)
    standing: Standing = field(init=False)
    buckets: Buckets = field(init=False)
    _heard: int = 0

    def __post_init__(self) -> None:
        self.standing = Standing(store=self.store, now=self.clock.now)
        self.buckets = Buckets(now=self.clock.now)
        self.intake = Intake(store=self.store, arrived=self.arrived, now=self.clock.now)

    @property
    def desk(self) -> Desk:
        return Desk(
            store=self.store,
            in_force=InForce(self.policy),
            pages=PageLinks(public_url="http://127.0.0.1:8400", secret=SecretStr("secret")),
            trackers={"other": self.elsewhere},
            arrived=self.arrived,
            queued=self.queued,
            spoken=self.spoken,
            commanded=self.commanded,
            now=self.clock.now,
        )

    @property
    def outbox(self) -> Outbox:
        return Outbox(
            store=self.store,
            channels=self.channels,
            spoken=self.spoken,
            standing=self.standing,
            buckets=self.buckets,
            now=self.clock.now,
        )

    @property
    def channels(self) -> dict[str, Channel]:
        return {"fake": self.channel, "other": self.elsewhere}

    @property
    def completer(self) -> Completer:
        return Completer(
            store=self.store,
            channels=self.channels,
            trackers={"fake": self.channel},
            in_force=InForce(self.policy),
            partial=self.intake.partial,
            arrived=self.arrived,
            now=self.clock.now,
        )

    @property
    def vigil(self) -> Vigil:
        return Vigil(
            store=self.store,
            channels=self.channels,
            trackers={"fake": self.channel},
            queued=self.queued,
            spoken=self.spoken,
            now=self.clock.now,
        )

    async def hear(self, text: str, **changes: Any) -> Inbound:
        """Somebody says something in the thread, and the desk deals with it."""
        inbound = self.inbound(text, **changes)
        await self.intake.receive(inbound)
        await self.desk.work_off()
        return inbound

    def inbound(self, text: str, **changes: Any) -> Inbound:
        self._heard += 1
        self.clock.forward(1)
        n = self._heard
        values: dict[str, Any] = {"event": f"Ev{n}", "message": f"{n}.0", **changes}
        return an_inbound(text, **values)

    async def send(self) -> None:
        """Deliver all that is due."""
        while await send_due(self.outbox):
            pass

    async def said(self, kind: type[R]) -> list[R]:
        """Every message of this kind that stands in the channel, once all is sent."""
        await self.send()
        return [reply for reply in self.channel.replies() if isinstance(reply, kind)]

    async def notices(self) -> list[str]:
        return [notice.text for notice in await self.said(Notice)]

    async def questions(self) -> list[Question]:
        return await self.said(Question)

    async def cards(self) -> list[Card]:
        return await self.said(Card)

    async def finals(self) -> list[Final]:
        return await self.said(Final)

    async def marks(self, message: str = "1.0") -> set[Mark]:
        await self.send()
        return self.channel.marks.get((HERE.key, message), set())

    async def tasks(self) -> list[TaskRow]:
        async with self.store.read() as conn:
            return await tasks.listing(conn)

    async def task(self) -> TaskRow:
        [task] = await self.tasks()
        return task

    async def runs(self) -> list[RunRow]:
        task = await self.task()
        async with self.store.read() as conn:
            return await runs.of_task(conn, task.id)

    async def open_commands(self) -> list[CommandRow]:
        task = await self.task()
        async with self.store.read() as conn:
            return await commands.open_for(conn, task.id)

    async def outbox_row(self, kind: str, seq: str = "1") -> OutboxRow:
        task = await self.task()
        async with self.store.read() as conn:
            row = await outbox.get(conn, task.id, kind, seq)
        assert row is not None
        return row

    async def record(self, action: str) -> list[AuditRow]:
        task = await self.task()
        async with self.store.read() as conn:
            return [row for row in await audit.of_task(conn, task.id) if row.action == action]

    async def inbox_states(self) -> list[str]:
        async with self.store.read() as conn:
            return list((await conn.execute(text("SELECT state FROM inbox ORDER BY id"))).scalars())

    async def put(self, state: TaskState, **values: Any) -> TaskRow:
        """The only task is in this state, however it came there."""
        task = await self.task()
        async with self.store.begin() as tx:
            names = ", ".join(f"{name} = :{name}" for name in ["state", *values])
            changes = {"id": task.id, "state": state.value, **values}
            await tx.execute(text(f"UPDATE task SET {names} WHERE id = :id"), changes)  # noqa: S608 - a test's own words
        return await self.task()

    @asynccontextmanager
    async def refusing(self, table: str, event: str = "INSERT") -> AsyncIterator[None]:
        """The database refuses to write to a table while this lasts, now and the next time."""
        refuse = f"BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        async with self.store.begin() as tx:
            await tx.execute(text(f"CREATE TRIGGER refuse {refuse}"))
        yield
        async with self.store.begin() as tx:
            await tx.execute(text("DROP TRIGGER refuse"))
