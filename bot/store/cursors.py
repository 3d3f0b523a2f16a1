"""Small values by name: how far a poller has read, what a conversation waits for."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.tables import cursor as table
from bot.store.writing import upsert


async def get(conn: AsyncConnection, name: str) -> str | None:
    found = await conn.execute(select(table.c.value).where(table.c.name == name))
    value: str | None = found.scalar_one_or_none()
    return value


async def set_between(conn: AsyncConnection, prefix: str, suffix: str) -> dict[str, str]:
    """Those with a value whose names begin and end so."""
    mine = (
        table.c.name.startswith(prefix, autoescape=True),
        table.c.name.endswith(suffix, autoescape=True),
        table.c.value != "",
    )
    rows = await conn.execute(select(table.c.name, table.c.value).where(*mine))
    return {row.name: row.value for row in rows}


async def put(tx: AsyncConnection, name: str, value: str) -> None:
    insert = upsert(tx, table).values(name=name, value=value)
    await tx.execute(
        insert.on_conflict_do_update(
            index_elements=[table.c.name], set_={"value": insert.excluded.value}
        )
    )


async def starting(conn: AsyncConnection, prefix: str) -> dict[str, str]:
    """Every note whose name begins so, by the rest of its name."""
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    mine = (table.c.name >= prefix, table.c.name < after)
    rows = await conn.execute(select(table.c.name, table.c.value).where(*mine))
    return {name.removeprefix(prefix): value for name, value in rows if name.startswith(prefix)}


async def drop(tx: AsyncConnection, name: str) -> None:
    """Safe twice."""
    await tx.execute(delete(table).where(table.c.name == name))
