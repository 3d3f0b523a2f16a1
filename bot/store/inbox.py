"""What channels delivered, each utterance once."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.rows import DeadRow, InboxRow
from bot.store.tables import DEAD, NEW, RAW
from bot.store.tables import inbox as table
from bot.store.writing import insert_new, insert_new_many
from integrations.channel import Conversation, Inbound

DEALT_WITH = frozenset({"done", "ignored", "dead"})


def _values(inbound: Inbound, now: datetime) -> dict[str, Any]:
    return {
        "source": inbound.conversation.channel,
        "event_id": inbound.event_id,
        "semantic_key": inbound.semantic_key,
        "inbound": inbound.model_dump(mode="json"),
        "state": "raw" if inbound.partial else "new",
        "tries": 0,
        "error": "",
        "received_at": now,
    }


async def insert(tx: AsyncConnection, inbound: Inbound, *, now: datetime) -> bool:
    """False if this delivery, or another one of the same utterance, is stored already."""
    return await insert_new(tx, table, _values(inbound, now))


async def insert_many(
    tx: AsyncConnection, inbounds: Sequence[Inbound], *, now: datetime
) -> list[bool]:
    rows = [_values(inbound, now) for inbound in inbounds]
    return await insert_new_many(tx, table, rows, key=("source", "event_id", "semantic_key"))


async def new(conn: AsyncConnection, *, limit: int, after: int = 0) -> list[InboxRow]:
    """Oldest first, from an id on. `ValidationError` if one of them is `unreadable`."""
    rows = await _in_state(conn, NEW, limit, table.c.id > after)
    return [InboxRow.model_validate(row) for row in rows]


async def unreadable(conn: AsyncConnection, *, raw: bool = False) -> list[int]:
    """Of what `new` (or `raw`) would read, the ids of rows that it can't: damaged, or of another version."""
    rows = await _in_state(conn, RAW if raw else NEW, None)
    return [int(row["id"]) for row in rows if not _readable(row)]


async def held_up(conn: AsyncConnection) -> dict[str, int]:
    """Conversations that wait for a delivery to be completed, by key, and its id: what came before it does not wait.

    What can't be read holds up nobody.
    """
    query = (
        select(table.c.id, table.c.inbound).where(table.c.state == RAW).order_by(table.c.id.desc())
    )
    first = {}
    for row_id, inbound in (await conn.execute(query)).all():
        with suppress(ValidationError, LookupError, TypeError):
            first[Conversation.model_validate(inbound["conversation"]).key] = int(row_id)
    return first


async def raw(
    conn: AsyncConnection,
    *,
    limit: int,
    but_not: Collection[int] = (),
    busy: Collection[str] = (),
) -> list[InboxRow]:
    """What its channel has to complete first, oldest first; nothing of `busy` channels. `ValidationError` as for `new`."""
    which = [table.c.id.not_in(but_not)] if but_not else []
    which += [table.c.source.not_in(busy)] if busy else []
    rows = await _in_state(conn, RAW, limit, *which)
    return [InboxRow.model_validate(row) for row in rows]


async def complete(tx: AsyncConnection, row_id: int, inbound: Inbound) -> bool:
    """What was raw is new, and says this; False if it was not raw any more."""
    mine = (table.c.id == row_id, table.c.state == RAW)
    changes = {"state": "new", "inbound": inbound.model_dump(mode="json"), "error": ""}
    return (await tx.execute(update(table).where(*mine).values(changes))).rowcount == 1


async def is_new(tx: AsyncConnection, row_id: int) -> bool:
    """Nobody has dealt with it since it was read."""
    found = await tx.execute(select(table.c.id).where(table.c.id == row_id, table.c.state == NEW))
    return found.first() is not None


async def finish(
    tx: AsyncConnection, row_id: int, *, state: Literal["done", "ignored", "dead"]
) -> None:
    await tx.execute(update(table).where(table.c.id == row_id).values(state=state))


async def fail(tx: AsyncConnection, row_id: int, *, error: str) -> int:
    """Note a failed attempt; the number of them so far. The row stays new."""
    changes = update(table).where(table.c.id == row_id).values(tries=table.c.tries + 1, error=error)
    return int((await tx.execute(changes.returning(table.c.tries))).scalar_one())


async def dead(conn: AsyncConnection, *, limit: int) -> list[DeadRow]:
    """What failed for good, the newest first; also what can't be read."""
    columns = (table.c[name] for name in DeadRow.model_fields)
    query = select(*columns).where(table.c.state == DEAD).order_by(table.c.id.desc()).limit(limit)
    found = (await conn.execute(query)).mappings()
    return [DeadRow.model_validate({**row, "inbound": _inbound(row["inbound"])}) for row in found]


async def revive(tx: AsyncConnection, row_id: int) -> bool:
    """Deal with a dead one again; False for any other."""
    mine = (table.c.id == row_id, table.c.state == DEAD)
    if (found := (await tx.execute(select(table.c.inbound).where(*mine))).first()) is None:
        return False
    partial = isinstance(found.inbound, dict) and found.inbound.get("partial")
    changes = {"state": "raw" if partial else "new", "tries": 0, "error": ""}
    return (await tx.execute(update(table).where(*mine).values(changes))).rowcount == 1


async def _in_state(
    conn: AsyncConnection, state: ColumnElement[str], limit: int | None, *which: ColumnElement[bool]
) -> list[dict[str, Any]]:
    columns = (table.c[name] for name in InboxRow.model_fields)
    query = select(*columns).where(table.c.state == state, *which).order_by(table.c.id)
    query = query.limit(limit)
    return [dict(row) for row in (await conn.execute(query)).mappings()]


def _readable(row: dict[str, Any]) -> bool:
    try:
        InboxRow.model_validate(row)
    except ValidationError:
        return False
    return True


def _inbound(stored: object) -> Inbound | None:
    try:
        return Inbound.model_validate(stored)
    except ValidationError:
        return None


async def prune(
    tx: AsyncConnection, *, before: datetime, after: int, limit: int
) -> tuple[int, int | None]:
    """Of the rows after an id, remove those that are older and dealt with: how many, and where to go on."""
    columns = (table.c.id, table.c.state, table.c.received_at)
    query = select(*columns).where(table.c.id > after).order_by(table.c.id).limit(limit)
    rows = (await tx.execute(query)).all()
    old = [row for row in rows if row.received_at < before]
    done = [row.id for row in old if row.state in DEALT_WITH]
    if done:
        await tx.execute(delete(table).where(table.c.id.in_(done)))
    goes_on = len(rows) == limit and len(old) == limit
    return len(done), rows[-1].id if goes_on else None


async def backlog(conn: AsyncConnection) -> int:
    waiting = [
        select(func.count()).select_from(table).where(table.c.state == state).scalar_subquery()
        for state in (NEW, RAW)  # one index each
    ]
    return int((await conn.execute(select(waiting[0] + waiting[1]))).scalar_one())
