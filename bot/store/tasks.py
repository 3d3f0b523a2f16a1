"""Tasks: the rows that the whole of Errand is about."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Required, TypedDict, Unpack

from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy import update as sql_update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.states import IN_SANDBOX, LIVE, TERMINAL, TaskState, check_move
from bot.store.rows import TaskRow
from bot.store.tables import follower
from bot.store.tables import task as table
from bot.store.writing import insert_new
from integrations.channel import Conversation

NOTHING: tuple[str, ...] = ()
READY = (table.c.state == TaskState.QUEUED, table.c.waits_for == NOTHING)
HELD = (table.c.state == TaskState.QUEUED, table.c.waits_for != NOTHING)
MEDIUM = 3
_URGENCY = case((table.c.priority == 0, MEDIUM), else_=table.c.priority)
"""Where a task stands in line that says nothing of its priority."""


class _Columns(TypedDict, total=False):
    conversation: Conversation
    message_id: str
    requester: str
    requester_name: str
    title: str
    link: str
    forge: str
    repo: str
    repo_reason: str
    branch: str
    prompt: str
    context: str
    waits_for: tuple[str, ...]
    grant: dict[str, Any]
    policy_hash: str
    round: int
    attempts: int
    pull_url: str
    reason: str
    ended_at: datetime | None


class TaskChanges(_Columns, total=False):
    """What a move may change besides the state."""

    changed_at: Required[datetime]
    new_fence: int
    """The fence afterwards; `fence` is the one that is expected."""


class TaskUpdate(_Columns, total=False):
    changed_at: datetime
    fence: int


class FollowUp(TypedDict, total=False):
    """What the new round of an ended task begins with."""

    conversation: Conversation
    message_id: Required[str]
    prompt: Required[str]
    grant: Required[dict[str, Any]]
    policy_hash: Required[str]
    context: str
    requester: str
    requester_name: str
    link: str


async def insert(tx: AsyncConnection, row: TaskRow) -> bool:
    """False if there is a task of the same origin."""
    return await insert_new(tx, table, dict(row))


async def get(conn: AsyncConnection, task_id: str) -> TaskRow | None:
    return await _first(conn, select(table).where(table.c.id == task_id))


async def for_conversation(conn: AsyncConnection, conversation: Conversation) -> TaskRow | None:
    """The newest task of a conversation, whether it was asked for there or is followed there."""
    followed = select(follower.c.task).where(follower.c.conversation == conversation)
    mine = or_(table.c.conversation == conversation, table.c.id.in_(followed))
    here = select(table).where(mine)
    return await _first(conn, here.order_by(table.c.created_at.desc(), table.c.id.desc()))


async def for_item(conn: AsyncConnection, item: str, *, repo: str) -> TaskRow | None:
    """The newest task on a ticket, in this repository."""
    mine = select(table).where(table.c.item == item, table.c.repo == repo)
    return await _first(conn, mine.order_by(table.c.created_at.desc(), table.c.id.desc()))


async def of_requester(conn: AsyncConnection, person: str, *, limit: int) -> list[TaskRow]:
    """Newest first."""
    mine = select(table).where(table.c.requester == person)
    return await _all(
        conn, mine.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Of a task what says whose turn it is."""

    id: str
    repo: str
    requester: str
    priority: int


_STANDING = (table.c.id, table.c.repo, table.c.requester, table.c.priority)


async def standing_in_line(conn: AsyncConnection, *, limit: int) -> list[Standing]:
    """Those of `queued`, in its order."""
    rows = await conn.execute(_line(select(*_STANDING)).limit(limit))
    return [Standing(**row) for row in rows.mappings()]


async def standing_at_work(conn: AsyncConnection) -> list[Standing]:
    rows = await conn.execute(select(*_STANDING).where(table.c.state.in_(IN_SANDBOX)))
    return [Standing(**row) for row in rows.mappings()]


async def listing(
    conn: AsyncConnection, *, states: Collection[TaskState] | None = None, limit: int = 50
) -> list[TaskRow]:
    """Newest first."""
    query = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    return await _all(conn, query if states is None else query.where(table.c.state.in_(states)))


async def queued(conn: AsyncConnection, *, limit: int) -> list[TaskRow]:
    """What may start: the most urgent first, then the oldest; who is queued again does not lose its place."""
    return await _all(conn, _line(select(table)).limit(limit))


async def candidates(
    conn: AsyncConnection,
    *,
    each: int,
    per_repo: int,
    full_repos: Collection[str] = (),
    full_people: Collection[str] = (),
) -> list[TaskRow]:
    """Of what may start the first few of each person in each repository, however long the line behind them is.

    What stands behind those who have as much at work as they may is not even read.
    """
    repos = [repo for repo in await _repos(conn) if repo not in full_repos]
    has_room = (table.c.repo.in_(repos), table.c.requester.not_in(full_people))
    order = (_URGENCY, table.c.created_at, table.c.id)
    of_person = func.row_number().over(
        partition_by=(table.c.repo, table.c.requester), order_by=order
    )
    ranked = _ready(select(table.c.id, of_person.label("of_person")).where(*has_room)).subquery()
    first = select(ranked.c.id).where(ranked.c.of_person <= each)
    of_repo = func.row_number().over(partition_by=table.c.repo, order_by=order)
    few = select(table.c.id, of_repo.label("of_repo")).where(table.c.id.in_(first)).subquery()
    chosen = select(few.c.id).where(few.c.of_repo <= per_repo)
    return await _all(conn, _line(select(table).where(table.c.id.in_(chosen))))


async def _repos(conn: AsyncConnection) -> list[str]:
    """All that ever had a task, from one to the next in the index: how many tasks each has costs nothing."""
    each = select(func.min(table.c.repo).label("repo")).cte(recursive=True)
    following = select(func.min(table.c.repo)).where(table.c.repo > each.c.repo).scalar_subquery()
    each = each.union_all(select(following).where(each.c.repo.is_not(None)))
    found = await conn.execute(select(each.c.repo).where(each.c.repo.is_not(None)))
    return list(found.scalars())


def urgency(priority: int) -> int:
    """The most urgent have the least."""
    return priority or MEDIUM


def _line(query: Select[Any]) -> Select[Any]:
    return _ready(query).order_by(_URGENCY, table.c.created_at, table.c.id)


def _ready(query: Select[Any]) -> Select[Any]:
    return query.where(*READY)


async def waiting(conn: AsyncConnection, *, limit: int) -> list[TaskRow]:
    """What is queued but waits for something else to be done, oldest first."""
    query = select(table).where(*HELD).order_by(table.c.created_at, table.c.id)
    return await _all(conn, query.limit(limit))


async def in_states(
    conn: AsyncConnection, states: Collection[TaskState], *, limit: int = 1000
) -> list[TaskRow]:
    """Those first that changed longest ago."""
    query = select(table).where(table.c.state.in_(states))
    return await _all(conn, query.order_by(table.c.changed_at, table.c.id).limit(limit))


async def ids_in_states(conn: AsyncConnection, states: Collection[TaskState]) -> frozenset[str]:
    """However many."""
    found = await conn.execute(select(table.c.id).where(table.c.state.in_(states)))
    return frozenset(found.scalars())


async def move(
    tx: AsyncConnection,
    task_id: str,
    *,
    to: TaskState,
    old: Collection[TaskState],
    fence: int | None = None,
    **values: Unpack[TaskChanges],
) -> bool:
    """Compare-and-set: True for exactly one of many who try the same move.

    Without `ended_at` a move to a terminal state ends at `changed_at`. `IllegalMoveError` for a
    move that the state machine does not have, whatever the task's state.
    """
    for state in old:
        check_move(state, to)
    changes: dict[str, Any] = {**values}
    if "new_fence" in changes:
        changes["fence"] = changes.pop("new_fence")
    if to in TERMINAL:
        changes.setdefault("ended_at", values["changed_at"])
    expected = [table.c.id == task_id, table.c.state.in_(old)]
    if fence is not None:
        expected.append(table.c.fence == fence)
    return await _change(tx, expected, {**changes, "state": to})


async def update(tx: AsyncConnection, task_id: str, **values: Unpack[TaskUpdate]) -> bool:
    return await _change(tx, [table.c.id == task_id], {**values})


async def reopen(
    tx: AsyncConnection, task_id: str, *, now: datetime, **values: Unpack[FollowUp]
) -> bool:
    """Begin the next round of an ended task; False if it has not ended."""
    fresh: dict[str, Any] = {
        "state": TaskState.QUEUED,
        "round": table.c.round + 1,
        "attempts": 0,
        "reason": "",
        "changed_at": now,
        "ended_at": None,
    }
    ended = [table.c.id == task_id, table.c.state.in_(TERMINAL)]
    return await _change(tx, ended, {**values, **fresh})


async def count_live(
    conn: AsyncConnection, *, requester: str | None = None, repo: str | None = None
) -> int:
    """Tasks that have not ended, of this person and on this repository where given."""
    query = select(func.count()).select_from(table).where(table.c.state.in_(LIVE))
    if requester is not None:
        query = query.where(table.c.requester == requester)
    if repo is not None:
        query = query.where(table.c.repo == repo)
    return int((await conn.execute(query)).scalar_one())


async def counts(conn: AsyncConnection) -> dict[TaskState, int]:
    """Every state with its number of tasks, also 0."""
    query = select(table.c.state, func.count()).group_by(table.c.state)
    found = {state: int(number) for state, number in await conn.execute(query)}
    return {state: found.get(state, 0) for state in TaskState}


async def _change(
    tx: AsyncConnection, expected: Sequence[ColumnElement[bool]], changes: dict[str, Any]
) -> bool:
    done = await tx.execute(sql_update(table).where(*expected).values(changes))
    return done.rowcount == 1


async def _first(conn: AsyncConnection, query: Select[Any]) -> TaskRow | None:
    rows = await _all(conn, query.limit(1))
    return rows[0] if rows else None


async def _all(conn: AsyncConnection, query: Select[Any]) -> list[TaskRow]:
    return [TaskRow.model_validate(dict(row)) for row in (await conn.execute(query)).mappings()]
