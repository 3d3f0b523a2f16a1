"""An edit of what was said before counts as a correction of it."""

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.said import show_card
from bot.states import TERMINAL, TaskState
from bot.store import commands, tasks
from bot.store.rows import TaskRow
from integrations.channel import Inbound

REQUEST = "I have edited my request. It now reads:"
WORD = "I have edited what I said before. It now reads:"


async def is_about(conn: AsyncConnection, inbound: Inbound, task: TaskRow) -> str:
    """What the agent is told of an edit; empty if it is of nothing that the task was told."""
    if task.state in TERMINAL:
        return ""
    if inbound.message_id == task.message_id:
        return REQUEST
    said = f"{inbound.conversation.channel}:{inbound.corrects}:steer"
    return WORD if await commands.exists(conn, said) else ""


async def rewrite(
    tx: AsyncConnection, task: TaskRow, inbound: Inbound, request: words.Request
) -> bool:
    """Change a request that no run has seen yet; False if it is too late for that."""
    if inbound.message_id != task.message_id or task.state is not TaskState.QUEUED or task.fence:
        return False
    await tasks.update(tx, task.id, prompt=request.prompt, title=request.title)
    fresh = await tasks.get(tx, task.id)
    if fresh is not None:
        await show_card(tx, fresh, now=inbound.received_at)
    return True
