"""What Errand has to say: each message once, in order within its conversation, one in flight.

A row goes pending → sending → sent, and back to pending when a newer version was put in its place,
when sending failed for now (`again`), or when the sender vanished (`expired`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Case,
    ColumnElement,
    FromClause,
    RowMapping,
    Select,
    Text,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from bot.store.columns import UtcTime, canonical
from bot.store.rows import OutboxRow
from bot.store.tables import DEAD, PENDING, SENDING
from bot.store.tables import outbox as table
from bot.store.writing import insert_new

URGENT, NORMAL = 0, 1
UNSENT = ("pending", "sending")


@dataclass(frozen=True, slots=True)
class Destination:
    """One workspace of a channel."""

    channel: str
    team: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.channel}:{self.team}" if self.team else self.channel


async def put(tx: AsyncConnection, row: OutboxRow) -> bool:
    """False if (task, kind, seq) has been put before."""
    values = row.model_dump(exclude={"urgent", "conversation"})
    values["conversation"] = row.conversation
    values["rank"] = URGENT if row.urgent else NORMAL
    return await insert_new(tx, table, values)


async def replace(
    tx: AsyncConnection,
    *,
    task: str,
    kind: str,
    seq: str,
    payload: dict[str, Any],
    now: datetime,
    urgent: bool = False,
) -> bool:
    """Put a newer version in a row's place; False if there is no row or it says the same already.

    A row in flight stays so, and is pending again after `sent`. A newer version does not end the wait
    that a rate limit or the pace of edits asked for; an urgent one ends the latter. What is due already
    keeps its place in line.
    """
    rank = URGENT if urgent else NORMAL
    unsent = table.c.state.in_(UNSENT)
    changes = {
        "payload": payload,
        "version": table.c.version + 1,
        "state": case((table.c.state == "sending", "sending"), else_="pending"),
        "rank": case((and_(unsent, table.c.rank < rank), table.c.rank), else_=rank),
        "next_at": _next_at(now, urgent=urgent),
        "tries": case((unsent, table.c.tries), else_=0),
    }
    other = table.c.payload != payload
    done = await tx.execute(update(table).where(_named(task, kind, seq), other).values(changes))
    return done.rowcount == 1


async def claim(
    tx: AsyncConnection,
    *,
    now: datetime,
    lease_seconds: float,
    limit: int,
    busy: Collection[Destination] = (),
) -> list[OutboxRow]:
    """Take rows to send, the urgent first, then what is due for longest: at most one per conversation.

    Only the first waiting row of a conversation is taken, when it is due and none is in flight
    there; so a row that waits for its next try holds back those behind it. Across conversations an
    old card that changes all the time has its turn, and no more than that. Nothing is taken for `busy` ones.
    """
    due = _heads(select(table.c.ordinal)).where(table.c.next_at <= now, *_not_to(busy))
    in_turn = due.order_by(table.c.rank, table.c.next_at, table.c.ordinal)
    chosen = in_turn.limit(limit).with_for_update(of=table, skip_locked=True)
    ordinals = (await tx.execute(chosen)).scalars().all()
    if not ordinals:
        return []
    changes = {
        "state": "sending",
        "tries": table.c.tries + 1,
        "claim_until": now + timedelta(seconds=lease_seconds),
        "first_claim_at": func.coalesce(table.c.first_claim_at, literal(now, UtcTime)),
    }
    mine = (table.c.ordinal.in_(ordinals), table.c.state == PENDING)
    claimed = await tx.execute(update(table).where(*mine).values(changes).returning(table))
    rows = sorted(claimed.mappings(), key=lambda row: ordinals.index(row["ordinal"]))
    return [_row(row) for row in rows]


async def sent(
    tx: AsyncConnection, row_id: str, *, version: int, remote_id: str, next_at: datetime
) -> None:
    """Note a delivered version, whoever holds the row by now. Safe twice.

    A newer version does not go out before `next_at`, unless it is urgent.
    """
    newer = table.c.version > version
    urgent = and_(newer, table.c.rank == URGENT)
    changes = {
        "state": case((newer, "pending"), else_="sent"),
        "next_at": case((urgent, table.c.next_at), else_=literal(next_at, UtcTime)),
        "sent_version": version,
        "remote_id": remote_id or table.c.remote_id,
        "claim_until": None,
        "tries": 0,
        "error": "",
    }
    mine = (table.c.id == row_id, table.c.sent_version < version)
    await tx.execute(update(table).where(*mine).values(changes))


async def again(tx: AsyncConnection, row_id: str, *, next_at: datetime, error: str) -> None:
    """It did not go out now; try at `next_at`."""
    mine = (table.c.id == row_id, table.c.state == SENDING)
    changes = {"state": "pending", "next_at": next_at, "claim_until": None, "error": error}
    await tx.execute(update(table).where(*mine).values(changes))


async def hold(
    tx: AsyncConnection, row_id: str, *, next_at: datetime, error: str, first: bool
) -> None:
    """As `again`, without a try: nothing was called, or whoever was called took nothing from us.

    `first`: nor was it called before, so that nobody has to look for what may be there.
    """
    mine = (table.c.id == row_id, table.c.state == SENDING)
    changes = {
        "state": "pending",
        "next_at": next_at,
        "claim_until": None,
        "error": error,
        "tries": table.c.tries - 1,
        "first_claim_at": None if first else table.c.first_claim_at,
    }
    await tx.execute(update(table).where(*mine).values(changes))


async def dead(tx: AsyncConnection, row_id: str, *, error: str) -> None:
    """It will not go out; those behind it may. A newer version makes it pending again."""
    mine = (table.c.id == row_id, table.c.state.in_(UNSENT))
    changes = {"state": "dead", "claim_until": None, "error": error}
    await tx.execute(update(table).where(*mine).values(changes))


async def expired(tx: AsyncConnection, *, now: datetime) -> list[OutboxRow]:
    """Free rows whose sender vanished; they may or may not have gone out since `first_claim_at`."""
    gone = (table.c.state == SENDING, table.c.claim_until < now)
    changes = {"state": "pending", "claim_until": None}
    freed = await tx.execute(update(table).where(*gone).values(changes).returning(table))
    return [_row(row) for row in freed.mappings()]


async def orphaned(tx: AsyncConnection, *, now: datetime, settled_at: datetime) -> None:
    """Free every row in flight, because whoever sent it is known to be dead.

    What was being posted may yet appear, so nobody looks for it before `settled_at`; what is safe twice waits for
    nothing.
    """
    safe_twice = or_(table.c.kind == "mark", table.c.remote_id != "")
    changes = {
        "state": "pending",
        "claim_until": None,
        "next_at": case((safe_twice, literal(now, UtcTime)), else_=literal(settled_at, UtcTime)),
    }
    await tx.execute(update(table).where(table.c.state == SENDING).values(changes))


async def doubt(tx: AsyncConnection) -> None:
    """What was never tried may have been sent all the same, by the database that this one is an old copy of."""
    untried = (table.c.state.in_(UNSENT), table.c.first_claim_at.is_(None))
    changes = {"first_claim_at": table.c.created_at}
    await tx.execute(update(table).where(*untried).values(changes))


async def get(conn: AsyncConnection, task: str, kind: str, seq: str) -> OutboxRow | None:
    rows = await conn.execute(select(table).where(_named(task, kind, seq)))
    row = rows.mappings().first()
    return None if row is None else _row(row)


async def of_task(conn: AsyncConnection, task: str) -> list[OutboxRow]:
    """In the order in which they were put."""
    query = select(table).where(table.c.task == task).order_by(table.c.created_at, table.c.ordinal)
    return [_row(row) for row in (await conn.execute(query)).mappings()]


async def unsent(conn: AsyncConnection, task: str) -> int:
    waiting = (table.c.task == task, table.c.state.in_(UNSENT))
    query = select(func.count()).select_from(table).where(*waiting)
    return int((await conn.execute(query)).scalar_one())


async def waiting(conn: AsyncConnection, *, dead: bool, limit: int) -> list[OutboxRow]:
    """What waits to be sent, the urgent and the oldest first; or what will not be sent, the newest first."""
    query = select(table).where(table.c.state == (DEAD if dead else PENDING))
    order = (table.c.ordinal.desc(),) if dead else _order(table)
    return [
        _row(row) for row in (await conn.execute(query.order_by(*order).limit(limit))).mappings()
    ]


async def by_id(conn: AsyncConnection, row_id: str) -> OutboxRow | None:
    row = (await conn.execute(select(table).where(table.c.id == row_id))).mappings().first()
    return None if row is None else _row(row)


async def retry(tx: AsyncConnection, row_id: str, *, now: datetime) -> bool:
    """Try a dead message again, or one that waits, at once; False for any other. What may be there is looked for."""
    mine = (table.c.id == row_id, table.c.state.in_(("dead", "pending")))
    changes = {"state": "pending", "next_at": now, "tries": 0, "claim_until": None}
    return (await tx.execute(update(table).where(*mine).values(changes))).rowcount == 1


async def next_due(conn: AsyncConnection, *, busy: Collection[Destination] = ()) -> datetime | None:
    """When the next row could be claimed, if none is put and none comes back before."""
    heads = _heads(select(func.min(table.c.next_at))).where(*_not_to(busy))
    found = await conn.execute(heads)
    due: datetime | None = found.scalar_one()
    return due


def _next_at(now: datetime, *, urgent: bool) -> Case[Any]:
    at_once = literal(now, UtcTime)
    failed = and_(table.c.state.in_(UNSENT), table.c.tries > 0)
    in_line = and_(table.c.state == PENDING, table.c.next_at <= at_once)
    paced = false() if urgent else table.c.next_at > at_once
    return case((or_(failed, in_line, paced), table.c.next_at), else_=at_once)


def _named(task: str, kind: str, seq: str) -> ColumnElement[bool]:
    return and_(table.c.task == task, table.c.kind == kind, table.c.seq == seq)


def _order(rows: FromClause) -> tuple[ColumnElement[Any], ...]:
    return rows.c.rank, rows.c.created_at, rows.c.ordinal


def _heads(query: Select[Any]) -> Select[Any]:
    """Waiting rows that are the first of a conversation in which nothing is in flight."""
    other = table.alias("other")
    here = other.c.conversation == table.c.conversation
    before = and_(other.c.state == PENDING, tuple_(*_order(other)) < tuple_(*_order(table)))
    return query.where(
        table.c.state == PENDING,
        ~exists().where(here, other.c.state == SENDING),
        ~exists().where(here, before),
    )


def _not_to(busy: Collection[Destination]) -> list[ColumnElement[bool]]:
    return [not_(_goes_to(destination)) for destination in busy]


def _goes_to(destination: Destination) -> ColumnElement[bool]:
    """By the text of a conversation, which is canonical: see `ConversationText`."""
    stored = type_coerce(table.c.conversation, Text)
    channel = stored.contains(_member("channel", destination.channel), autoescape=True)
    if not destination.team:
        return and_(channel, not_(stored.contains('"team":')))
    return and_(channel, stored.contains(_member("team", destination.team), autoescape=True))


def _member(name: str, value: str) -> str:
    return canonical({name: value})[1:-1]


def _row(row: RowMapping) -> OutboxRow:
    values = {name: row[name] for name in OutboxRow.model_fields if name != "urgent"}
    return OutboxRow.model_validate({**values, "urgent": row["rank"] == URGENT})
