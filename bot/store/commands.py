"""Commands to live runs, kept until the run has seen them."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.rows import CommandRow
from bot.store.tables import command as table
from bot.store.writing import insert_new

OPEN = ("pending", "sent")


async def insert(tx: AsyncConnection, row: CommandRow) -> bool:
    """False if the id is known."""
    return await insert_new(tx, table, dict(row))


async def open_for(conn: AsyncConnection, task: str, fence: int | None = None) -> list[CommandRow]:
    """Pending or sent but not seen, in the order in which they were given."""
    columns = (table.c[name] for name in CommandRow.model_fields)
    query = select(*columns).where(table.c.task == task, table.c.state.in_(OPEN))
    if fence is not None:
        query = query.where(table.c.fence == fence)
    rows = await conn.execute(query.order_by(table.c.created_at, table.c.ordinal))
    return [CommandRow.model_validate(dict(row)) for row in rows.mappings()]


async def exists(conn: AsyncConnection, command_id: str) -> bool:
    found = await conn.execute(select(table.c.id).where(table.c.id == command_id))
    return found.first() is not None


async def mark_sent(tx: AsyncConnection, ids: Collection[str], now: datetime) -> None:
    """Note a sending, the first or another. What is done stays done."""
    mine = (table.c.id.in_(ids), table.c.state.in_(OPEN))
    await tx.execute(update(table).where(*mine).values(state="sent", sent_at=now))


async def finish(tx: AsyncConnection, command_id: str) -> None:
    """The run has seen it. An unknown id is no error."""
    await tx.execute(update(table).where(table.c.id == command_id).values(state="done"))


async def finish_all(tx: AsyncConnection, task: str) -> None:
    mine = (table.c.task == task, table.c.state.in_(OPEN))
    await tx.execute(update(table).where(*mine).values(state="done"))
