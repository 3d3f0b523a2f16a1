"""What happened in runs, each event once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.rows import EventRow
from bot.store.tables import event as table
from bot.store.writing import insert_new, insert_new_many
from runner.protocol import EventRecord

KEY = ("task", "fence", "source", "seq")


def _values(record: EventRecord, now: datetime) -> dict[str, Any]:
    return {
        "task": record.run.task,
        "fence": record.run.fence,
        "source": record.source,
        "seq": record.seq,
        "kind": record.event.kind,
        "at": record.at,
        "event": record.event.model_dump(mode="json"),
        "stored_at": now,
    }


async def insert(tx: AsyncConnection, record: EventRecord, *, now: datetime) -> bool:
    """False if (task, fence, source, seq) is known. The task must exist, the run need not."""
    return await insert_new(tx, table, _values(record, now))


async def insert_many(
    tx: AsyncConnection, records: Sequence[EventRecord], *, now: datetime
) -> list[bool]:
    return await insert_new_many(tx, table, [_values(r, now) for r in records], key=KEY)


async def of_task(
    conn: AsyncConnection,
    task: str,
    *,
    fence: int | None = None,
    stored_since: datetime | None = None,
) -> list[EventRow]:
    """In the order in which they happened, run by run."""
    query = select(table).where(table.c.task == task)
    if stored_since is not None:
        query = query.where(table.c.stored_at >= stored_since)
    if fence is not None:
        query = query.where(table.c.fence == fence)
    order = (table.c.fence, table.c.at, table.c.source, table.c.seq)
    rows = await conn.execute(query.order_by(*order))
    return [_row(row) for row in rows.mappings()]


async def first_task(conn: AsyncConnection, *, after: str) -> str | None:
    """The first task, by its id, that comes after another and has events; ids begin with their time."""
    query = select(table.c.task).where(table.c.task > after).order_by(table.c.task).limit(1)
    found: str | None = (await conn.execute(query)).scalar_one_or_none()
    return found


async def prune(tx: AsyncConnection, task: str, *, limit: int) -> int:
    """Remove some of a task's events; how many."""
    key = [table.c[name] for name in KEY]
    some = select(*key).where(table.c.task == task).limit(limit)
    return (await tx.execute(delete(table).where(tuple_(*key).in_(some)))).rowcount


async def last(conn: AsyncConnection, task: str, *, fence: int, kind: str) -> EventRow | None:
    """The last event of this kind in a run."""
    mine = (table.c.task == task, table.c.fence == fence, table.c.kind == kind)
    query = select(table).where(*mine).order_by(table.c.at.desc(), table.c.seq.desc()).limit(1)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _row(row)


def _row(row: RowMapping) -> EventRow:
    record = EventRecord.model_validate(
        {
            "run": {"task": row["task"], "fence": row["fence"]},
            "source": row["source"],
            "seq": row["seq"],
            "at": row["at"],
            "event": row["event"],
        }
    )
    return EventRow(record=record, stored_at=row["stored_at"])
