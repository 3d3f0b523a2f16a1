"""The life of a task: how it begins, is stopped and ends, each in the transaction that decides it."""

import re
from collections.abc import Callable
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from bot import words
from bot.approvals import lapse
from bot.pictures import keep_pictures
from bot.questions import as_word
from bot.record import record
from bot.said import mark, say, say_everywhere, show_card
from bot.states import TaskState
from bot.store import commands, tasks
from bot.store.rows import CommandRow, TaskRow
from bot.store.tasks import FollowUp
from integrations.channel import Final, Inbound, Mark, Notice
from policies.model import Grant

log = structlog.get_logger()


def new_task(
    inbound: Inbound,
    request: words.Request,
    grant: Grant,
    *,
    policy_hash: str,
    page_of: Callable[[str], str],
    now: datetime,
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
        branch=_asked_for(request.branch or "")
        or _wanted(inbound.branch)
        or own_branch(task_id, request.title),
        prompt=request.prompt,
        context=inbound.context,
        guidance=inbound.guidance,
        page=page_of(task_id),
        item=inbound.item,
        priority=inbound.priority,
        waits_for=inbound.waits_for,
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


SAME_GESTURE_SECONDS = 1.0
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|\.lock(?:/|$)|/\.|\./))[a-z0-9][a-z0-9._/-]{2,150}[a-z0-9]")
"""Ours are plainer than git allows: nothing in them means anything to a shell or to git."""


def _wanted(branch: str) -> str:
    """The branch that a ticket has in mind; empty if that is no name for one that we would push.

    A ticket's branch has its number in it: `main` and its like have none.
    """
    plain = branch.strip().lower()
    return plain if any(map(str.isdigit, plain)) and _BRANCH.fullmatch(plain) else ""


def _asked_for(branch: str) -> str:
    """The branch that a request names; `main` and its like have no slash."""
    return branch if "/" in branch and _BRANCH.fullmatch(branch) else ""


def own_branch(task_id: str, title: str) -> str:
    return f"errand/{task_id}-{words.slug_of(title)}"


def pushed_key(task_id: str) -> str:
    """What we have pushed to the task's branch is kept under this."""
    return f"pushed:{task_id}"


async def stop_task(
    tx: AsyncConnection, task: TaskRow, *, by: str, command_id: str, now: datetime
) -> bool:
    """Stop it: at once if it has not been launched, else by a command to its run.

    A run that is stopped once more does not wait until its work is kept. False if there was nothing to do.
    """
    if _is_same_gesture(task, now):
        return False
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
    again = task.state is TaskState.STOPPING
    if not again and not await tasks.move(
        tx, task.id, to=TaskState.STOPPING, old=live, changed_at=now
    ):
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


def _is_same_gesture(task: TaskRow, now: datetime) -> bool:
    """Two clicks of one finger are one stop."""
    age = (now - task.changed_at).total_seconds()
    return task.state is TaskState.STOPPING and age < SAME_GESTURE_SECONDS


MARKS = {
    "succeeded": Mark.DONE,
    "unchanged": Mark.DONE,
    "failed": Mark.FAILED,
    "stopped": Mark.STOPPED,
}


WENT_WELL = frozenset({"succeeded", "unchanged"})
MAX_QUOTED = 500


async def end_round(tx: AsyncConnection, task_id: str, last_word: Final, *, now: datetime) -> None:
    """Say how the round ended: the card, one final message, the reaction. Once per round.

    What people said and no run has seen becomes the next round, or is said to have come too late.
    """
    task = await tasks.get(tx, task_id)
    if task is None:
        raise LookupError(task_id)
    left = await commands.open_for(tx, task.id)
    unseen = [as_word(c) for c in left if c.kind in {"steer", "answer"}]
    await commands.finish_all(tx, task.id)
    await lapse(tx, task, now=now)
    await show_card(tx, task, now=now)
    await say_everywhere(tx, task, last_word, seq=str(task.round), now=now)
    log.info(
        "task_ended", task=task.id, state=task.state, outcome=last_word.outcome, fence=task.fence
    )
    if unseen and last_word.outcome in WENT_WELL:
        await _go_on(tx, task, unseen, now)
        return
    await mark(tx, task, Mark.SEEN, present=False, now=now)
    await mark(tx, task, MARKS[last_word.outcome], present=True, now=now)
    if unseen:
        await _say_unheard(tx, task, unseen, now)


async def begin_round(
    tx: AsyncConnection,
    task: TaskRow,
    changes: FollowUp,
    *,
    by: str,
    why: str,
    now: datetime,
    action: str = "follow_up",
) -> None:
    """The next round of an ended task: the same branch, a new card."""
    if changes["prompt"] == task.prompt:
        await keep_pictures(tx, task)
    await tasks.reopen(tx, task.id, now=now, **changes)
    await record(
        tx,
        now=now,
        actor=by,
        action=action,
        task=task.id,
        decision="granted",
        policy_hash=changes["policy_hash"],
        rule=why,
    )
    fresh = await tasks.get(tx, task.id)
    if fresh is not None:
        await mark(tx, fresh, Mark.SEEN, present=True, now=now)
        await show_card(tx, fresh, now=now)


async def _go_on(
    tx: AsyncConnection, task: TaskRow, unseen: list[CommandRow], now: datetime
) -> None:
    """Begin the next round with what was said too late for the last one, under the same grant."""
    changes = FollowUp(
        message_id=task.message_id,
        prompt="\n\n".join(command.text for command in unseen),
        grant=task.grant,
        policy_hash=task.policy_hash,
    )
    by = ", ".join(dict.fromkeys(command.author for command in unseen))
    await begin_round(tx, task, changes, by=by, why="said too late for the run before", now=now)


async def _say_unheard(
    tx: AsyncConnection, task: TaskRow, unseen: list[CommandRow], now: datetime
) -> None:
    quoted = "\n".join(f"> {line}" for c in unseen for line in c.text[:MAX_QUOTED].splitlines())
    text = f"This was said too late to be taken into account; say it again to go on:\n{quoted}"
    seq = f"unheard:{task.round}"
    await say(tx, task.conversation, Notice(text=text), seq=seq, now=now, task=task.id)
