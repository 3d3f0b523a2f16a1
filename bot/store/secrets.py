"""Texts by name that adapters keep. What is in them is encrypted by `bot.vault`, not here."""

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.tables import secret as table
from bot.store.writing import insert_new, upsert


async def get(conn: AsyncConnection, name: str) -> str | None:
    found = await conn.execute(select(table.c.value).where(table.c.name == name))
    value: str | None = found.scalar_one_or_none()
    return value


async def put(tx: AsyncConnection, name: str, value: str, *, now: datetime) -> None:
    insert = upsert(tx, table).values(name=name, value=value, changed_at=now)
    newer = {"value": insert.excluded.value, "changed_at": insert.excluded.changed_at}
    await tx.execute(insert.on_conflict_do_update(index_elements=[table.c.name], set_=newer))


async def create(tx: AsyncConnection, name: str, value: str, *, now: datetime) -> bool:
    """False if there is one of this name."""
    return await insert_new(tx, table, {"name": name, "value": value, "changed_at": now})


async def replace(tx: AsyncConnection, name: str, *, old: str, new: str, now: datetime) -> bool:
    """False if the value is not `old`."""
    mine = (table.c.name == name, table.c.value == old)
    done = await tx.execute(update(table).where(*mine).values(value=new, changed_at=now))
    return done.rowcount == 1


async def remove(tx: AsyncConnection, name: str, *, old: str) -> bool:
    """False if the value is not `old`."""
    mine = (table.c.name == name, table.c.value == old)
    return (await tx.execute(delete(table).where(*mine))).rowcount == 1


async def names(conn: AsyncConnection, *, prefix: str) -> list[str]:
    """Those that begin so, sorted."""
    begins = table.c.name.startswith(prefix, autoescape=True)
    return sorted((await conn.execute(select(table.c.name).where(begins))).scalars())
