"""Conversations in which people talk among themselves: only what is addressed to us counts there."""

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.answers import Answers
from bot.store import cursors
from bot.store.rows import TaskRow
from integrations.channel import Inbound

MUTED = "I take no more replies here as meant for me, unless they mention me; `unmute` ends that."
HEARD = "I take replies here as meant for me again."


async def is_muted(conn: AsyncConnection, inbound: Inbound) -> bool:
    return bool(await cursors.get(conn, _key(inbound)))


async def mute(
    tx: AsyncConnection, answers: Answers, inbound: Inbound, task: TaskRow, *, muted: bool
) -> None:
    """Only who may steer may also decide who does."""
    if await answers.granted(tx, inbound, task, action="steer"):
        await cursors.put(tx, _key(inbound), "muted" if muted else "")
        await answers.tell(tx, inbound, MUTED if muted else HEARD, task=task.id)


def _key(inbound: Inbound) -> str:
    return f"mute:{inbound.conversation.key}"
