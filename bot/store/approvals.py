"""Hosts that people opened to a task or a repository, or kept closed."""

from datetime import datetime

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.rows import ApprovalRow
from bot.store.tables import approval as table
from bot.store.writing import insert_new


async def insert(tx: AsyncConnection, row: ApprovalRow) -> bool:
    """False if the id is known."""
    return await insert_new(tx, table, dict(row))


async def in_force(
    conn: AsyncConnection, *, repo: str, task: str, now: datetime
) -> list[ApprovalRow]:
    """What holds for a task of this repository, oldest first."""
    mine = (table.c.repo == repo, table.c.task.in_(("", task)))
    valid = or_(table.c.expires_at.is_(None), table.c.expires_at > now)
    query = select(table).where(*mine, valid).order_by(table.c.decided_at, table.c.id)
    return [ApprovalRow.model_validate(dict(row)) for row in (await conn.execute(query)).mappings()]


async def of_repositories(conn: AsyncConnection, *, now: datetime) -> list[ApprovalRow]:
    """What holds for whole repositories, by repository."""
    valid = or_(table.c.expires_at.is_(None), table.c.expires_at > now)
    query = select(table).where(table.c.task == "", valid).order_by(table.c.repo, table.c.host)
    return [ApprovalRow.model_validate(dict(row)) for row in (await conn.execute(query)).mappings()]


async def remove(tx: AsyncConnection, approval_id: str) -> bool:
    """False if there is none of this id."""
    return (await tx.execute(delete(table).where(table.c.id == approval_id))).rowcount == 1
