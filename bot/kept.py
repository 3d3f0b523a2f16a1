"""What was kept of stopped work, and is in no pull request yet: the next round goes on from it."""

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import cursors
from bot.store.rows import TaskRow


async def note_kept(tx: AsyncConnection, task: TaskRow, head: str) -> None:
    """Note what the task's branch holds of stopped work; nothing once it is in a pull request."""
    if head and not task.pull_url:
        await cursors.put(tx, _key(task), head)
    else:
        await cursors.drop(tx, _key(task))


async def is_kept(conn: AsyncConnection, task: TaskRow) -> bool:
    return await cursors.get(conn, _key(task)) is not None


def _key(task: TaskRow) -> str:
    return f"kept:{task.id}"
