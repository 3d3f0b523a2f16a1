"""Conversations that follow a task beside the one it was asked for in."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.states import LIVE
from bot.store.tables import follower as table
from bot.store.tables import task
from bot.store.writing import insert_new
from integrations.channel import Conversation


async def add(tx: AsyncConnection, task: str, conversation: Conversation, *, now: datetime) -> bool:
    """False if it follows the task already."""
    row = {"task": task, "conversation": conversation, "since": now}
    return await insert_new(tx, table, row)


async def of_task(conn: AsyncConnection, task: str) -> list[Conversation]:
    """In the order in which they came."""
    query = select(table.c.conversation).where(table.c.task == task)
    found = await conn.execute(query.order_by(table.c.since, table.c.conversation))
    return list(found.scalars())


async def of_live_tasks(conn: AsyncConnection) -> list[Conversation]:
    """Every conversation that follows work which has not ended."""
    live = select(task.c.id).where(task.c.state.in_(LIVE))
    found = await conn.execute(select(table.c.conversation).where(table.c.task.in_(live)))
    return list(found.scalars())
