"""What channels delivered, each utterance once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.rows import InboxRow
from bot.store.tables import NEW
from bot.store.tables import inbox as table
from bot.store.writing import insert_new, insert_new_many
from integrations.channel import Inbound


def _values(inbound: Inbound, now: datetime) -> dict[str, Any]:
    return {
        "source": inbound.conversation.channel,
        "event_id": inbound.event_id,
        "semantic_key": inbound.semantic_key,
        "inbound": inbound.model_dump(mode="json"),
        "state": "new",
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


async def new(conn: AsyncConnection, *, limit: int) -> list[InboxRow]:
    """Oldest first. `ValidationError` if one of them is `unreadable`."""
    return [InboxRow.model_validate(row) for row in await _new(conn, limit)]


async def unreadable(conn: AsyncConnection, *, limit: int) -> list[int]:
    """Of what `new` would read, the ids of rows that it can't: damaged, or of another version."""
    return [int(row["id"]) for row in await _new(conn, limit) if not _readable(row)]


async def finish(
    tx: AsyncConnection, row_id: int, *, state: Literal["done", "ignored", "dead"]
) -> None:
    await tx.execute(update(table).where(table.c.id == row_id).values(state=state))


async def fail(tx: AsyncConnection, row_id: int, *, error: str) -> int:
    """Note a failed attempt; the number of them so far. The row stays new."""
    changes = update(table).where(table.c.id == row_id).values(tries=table.c.tries + 1, error=error)
    return int((await tx.execute(changes.returning(table.c.tries))).scalar_one())


async def _new(conn: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    columns = (table.c[name] for name in InboxRow.model_fields)
    query = select(*columns).where(table.c.state == NEW).order_by(table.c.id).limit(limit)
    return [dict(row) for row in (await conn.execute(query)).mappings()]


def _readable(row: dict[str, Any]) -> bool:
    try:
        InboxRow.model_validate(row)
    except ValidationError:
        return False
    return True


async def prune(
    tx: AsyncConnection, *, before: datetime, after: int, limit: int
) -> tuple[int, int | None]:
    """Of the rows after an id, remove those that are older and dealt with: how many, and where to go on."""
    columns = (table.c.id, table.c.state, table.c.received_at)
    query = select(*columns).where(table.c.id > after).order_by(table.c.id).limit(limit)
    rows = (await tx.execute(query)).all()
    old = [row for row in rows if row.received_at < before]
    done = [row.id for row in old if row.state != "new"]
    if done:
        await tx.execute(delete(table).where(table.c.id.in_(done)))
    goes_on = len(rows) == limit and len(old) == limit
    return len(done), rows[-1].id if goes_on else None


async def backlog(conn: AsyncConnection) -> int:
    query = select(func.count()).select_from(table).where(table.c.state == NEW)
    return int((await conn.execute(query)).scalar_one())
