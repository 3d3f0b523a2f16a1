"""The life of a task: how it begins, is stopped and ends, each in the transaction that decides it."""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from bot import words
from bot.record import record
from bot.said import mark, say, show_card
from bot.states import TaskState
from bot.store import commands, tasks
from bot.store.rows import CommandRow, TaskRow
from integrations.channel import Final, Inbound, Mark
from policies.model import Grant

log = structlog.get_logger()


def new_task(
    inbound: Inbound, request: words.Request, grant: Grant, *, policy_hash: str, now: datetime
) -> TaskRow:
    """A task as it is first stored."""
    task_id = str(ULID()).lower()
    return TaskRow(
        id=task_id,
        origin=f"{inbound.conversation.channel}:{inbound.semantic_key}",
        conversation=inbound.conversation,
        message_id=inbound.message_id,
        requester=inbound.author,
        requester_name=inbound.author_name or inbound.author,
        title=request.title,
        link=inbound.link,
        forge=grant.forge,
        repo=grant.repo,
        repo_reason=grant.repo_reason,
        branch=f"errand/{task_id}-{words.slug_of(request.title)}",
        prompt=request.prompt,
        grant=grant.model_dump(mode="json"),
        policy_hash=policy_hash,
        state=TaskState.QUEUED,
        fence=0,
        round=1,
        attempts=0,
        pull_url="",
        reason="",
        created_at=now,
        changed_at=now,
        ended_at=None,
    )


async def stop_task(
    tx: AsyncConnection, task: TaskRow, *, by: str, command_id: str, now: datetime
) -> bool:
    """Stop it: at once if it has not been launched, else by a command to its run."""
    await record(tx, now=now, actor=by, action="stop", task=task.id, decision="granted")
    if await tasks.move(
        tx,
        task.id,
        to=TaskState.STOPPED,
        old=[TaskState.QUEUED],
        changed_at=now,
        ended_at=now,
        reason=f"stopped by {by}",
    ):
        await end_round(
            tx,
            task.id,
            Final(outcome="stopped", text="Stopped before it began.", asked_by=task.requester_name),
            now=now,
        )
        return True
    live = [TaskState.STARTING, TaskState.RUNNING, TaskState.WAITING]
    if not await tasks.move(tx, task.id, to=TaskState.STOPPING, old=live, changed_at=now):
        return False
    row = CommandRow(
        id=command_id,
        task=task.id,
        fence=task.fence,
        kind="stop",
        text="",
        author=by,
        state="pending",
        created_at=now,
        sent_at=None,
    )
    await commands.insert(tx, row)
    fresh = await tasks.get(tx, task.id)
    if fresh is not None:
        await show_card(tx, fresh, now=now)
    return True


MARKS = {
    "succeeded": Mark.DONE,
    "unchanged": Mark.DONE,
    "failed": Mark.FAILED,
    "stopped": Mark.STOPPED,
}


async def end_round(tx: AsyncConnection, task_id: str, last_word: Final, *, now: datetime) -> None:
    """Say how the round ended: the card, one final message, the reaction. Once per round."""
    task = await tasks.get(tx, task_id)
    if task is None:
        raise LookupError(task_id)
    await show_card(tx, task, now=now)
    await say(tx, task.conversation, last_word, seq=str(task.round), now=now, task=task.id)
    await mark(tx, task, Mark.SEEN, present=False, now=now)
    await mark(tx, task, MARKS[last_word.outcome], present=True, now=now)
    await commands.finish_all(tx, task.id)
    log.info(
        "task_ended", task=task.id, state=task.state, outcome=last_word.outcome, fence=task.fence
    )
