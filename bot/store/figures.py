"""How much waits, and for how long: cheap enough to be asked every few seconds, however long the history is."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.states import LIVE, TaskState
from bot.store import cursors
from bot.store.inbox import backlog
from bot.store.tables import DEAD, NEW, PENDING, RAW, inbox, outbox, task
from bot.store.tasks import HELD, READY

STOPPED = "stopped:"
"""Where it is noted that a destination refuses our credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    tasks: dict[TaskState, int]
    """Tasks that have not ended, by state."""
    queued_since: datetime | None
    """When the task that waits for its turn for longest was queued, or released by what it waited for."""
    held: int
    """Queued tasks that wait for other tickets to be done."""
    inbox_new: int
    inbox_since: datetime | None
    inbox_dead: int
    outbox_pending: int
    outbox_since: datetime | None
    """When the oldest message was put that has never gone out; edits of one that has don't count."""
    outbox_dead: int
    stopped: frozenset[str]
    """Destinations that refuse our credential."""


async def look(conn: AsyncConnection) -> Figures:
    """Every figure is found by an index that holds only what it counts."""
    never_sent = and_(outbox.c.state == PENDING, outbox.c.sent_version == 0)
    arrivals = [
        await _oldest(conn, inbox, inbox.c.received_at, inbox.c.state == state)
        for state in (NEW, RAW)  # one index each
    ]
    return Figures(
        tasks=await _live(conn),
        queued_since=await _oldest(conn, task, task.c.changed_at, and_(*READY)),
        held=await _count(conn, task, and_(*HELD)),
        inbox_new=await backlog(conn),
        inbox_since=min((since for since in arrivals if since is not None), default=None),
        inbox_dead=await _count(conn, inbox, inbox.c.state == DEAD),
        outbox_pending=await _count(conn, outbox, outbox.c.state == PENDING),
        outbox_since=await _oldest(conn, outbox, outbox.c.created_at, never_sent),
        outbox_dead=await _count(conn, outbox, outbox.c.state == DEAD),
        stopped=frozenset(await cursors.starting(conn, STOPPED)),
    )


async def _live(conn: AsyncConnection) -> dict[TaskState, int]:
    query = select(task.c.state, func.count()).where(task.c.state.in_(LIVE))
    found = {s: int(n) for s, n in await conn.execute(query.group_by(task.c.state))}
    return {state: found.get(state, 0) for state in TaskState if state in LIVE}


async def _count(conn: AsyncConnection, table: Table, which: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(table).where(which)
    return int((await conn.execute(query)).scalar_one())


async def _oldest(
    conn: AsyncConnection,
    table: Table,
    column: ColumnElement[datetime],
    which: ColumnElement[bool],
) -> datetime | None:
    query = select(func.min(column)).select_from(table).where(which)
    found: datetime | None = (await conn.execute(query)).scalar_one()
    return found
