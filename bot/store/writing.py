"""INSERT where the row may be there already: the answer is a bool, not an error."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def upsert(tx: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in the connection's dialect."""
    return sqlite.insert(table) if tx.dialect.name == "sqlite" else postgresql.insert(table)


async def insert_new(tx: AsyncConnection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert unless any unique key of the table is taken."""
    statement = upsert(tx, table).on_conflict_do_nothing().values(values)
    done = await tx.execute(statement.returning(*table.primary_key.columns))
    return done.first() is not None


async def insert_new_many(
    tx: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]
) -> list[bool]:
    """As `insert_new` for each row, in order; `key` names columns that together tell rows apart.

    Of rows with the same key only the first can be new.
    """
    if not rows:
        return []
    statement = upsert(tx, table).on_conflict_do_nothing()
    done = await tx.execute(statement.returning(*(table.c[name] for name in key)), rows)
    inserted = {tuple(row) for row in done}
    answers = []
    for row in rows:
        mine = tuple(row[name] for name in key)
        answers.append(mine in inserted)
        inserted.discard(mine)
    return answers
