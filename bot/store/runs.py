"""Runs: the attempts of a task."""

from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import select
from sqlalchemy import update as sql_update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.rows import RunRow, TaskRow
from bot.store.tables import run as table
from bot.store.writing import insert_new


class RunChanges(TypedDict, total=False):
    host: str
    agent: str
    image: str
    image_digest: str
    base_commit: str
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str
    reason: str
    view: dict[str, Any]


async def insert(tx: AsyncConnection, row: RunRow) -> bool:
    """False if the task has a run with this fence."""
    return await insert_new(tx, table, dict(row))


async def get(conn: AsyncConnection, task: str, fence: int) -> RunRow | None:
    query = select(table).where(table.c.task == task, table.c.fence == fence)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else RunRow.model_validate(dict(row))


async def newest(conn: AsyncConnection, task: TaskRow) -> RunRow | None:
    """None while the task has not been launched."""
    return await get(conn, task.id, task.fence) if task.fence else None


async def of_task(conn: AsyncConnection, task: str) -> list[RunRow]:
    """Oldest first."""
    query = select(table).where(table.c.task == task).order_by(table.c.fence)
    return [RunRow.model_validate(dict(row)) for row in (await conn.execute(query)).mappings()]


async def update(tx: AsyncConnection, task: str, fence: int, **values: Unpack[RunChanges]) -> bool:
    """False if there is no such run."""
    mine = (table.c.task == task, table.c.fence == fence)
    done = await tx.execute(sql_update(table).where(*mine).values({**values}))
    return done.rowcount == 1
