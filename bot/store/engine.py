"""The store: transactions on one database, and its schema."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.store import schema
from bot.store.connect import (
    STATEMENT_SECONDS,
    WAIT_SECONDS,
    open_engine,
    open_migration_engine,
    parse,
)
from bot.store.duty import DutyLock
from bot.store.errors import StoreUnavailableError, store_error
from bot.store.turns import Turns

DUTY_SECONDS = 5.0
"""An answer that takes longer is none: somebody else may have the duty by then."""
WRITER = text("SELECT pg_advisory_xact_lock(4919131752989213764)")  # "Errand" in ASCII, roughly


class Store:
    """Truth. Errors of every method and of both transactions: `StoreError`'s leaves."""

    def __init__(self, url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        self._url = parse(url)
        open_for = partial(open_engine, self._url, statement_seconds=statement_seconds)
        self._writer = open_for(write=True)
        self._reader = open_for(write=False)
        self._turns = Turns(wait_seconds=WAIT_SECONDS)
        self.duty = DutyLock(open_engine(self._url, write=True, statement_seconds=DUTY_SECONDS))

    @property
    def dialect(self) -> str:
        """Sqlite or postgresql."""
        return self._url.get_backend_name()

    @property
    def file(self) -> Path | None:
        """Where the database lies, if it is a file."""
        return Path(self._url.database or "") if self.dialect == "sqlite" else None

    @asynccontextmanager
    async def begin(self, *, urgent: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, rolled back by an exception.

        There is one at a time in the whole installation, on PostgreSQL as on SQLite; so what was read
        inside it still holds when it writes. Keep it short and never wait for the network in it. `urgent` is
        for what somebody outside waits for.
        """
        async with self._turns.turn(urgent=urgent), _transaction(self._writer) as tx:
            if self.dialect == "postgresql":
                await tx.execute(WRITER)
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A snapshot that waits for nobody and can't write."""
        async with _transaction(self._reader) as conn:
            yield conn

    async def time(self) -> datetime | None:
        """By the clock of the database's server; None where there is none but this process."""
        if self.dialect == "sqlite":
            return None
        async with self.read() as conn:
            found: datetime = (await conn.execute(select(func.clock_timestamp()))).scalar_one()
        return found.astimezone(UTC)

    async def upgrade(self) -> None:
        """Bring the schema to `head`. Safe twice and from several processes; all or nothing."""
        await asyncio.to_thread(asyncio.run, _upgrade(self._url))

    async def revision(self) -> str | None:
        """Version of the schema; None where there is none yet."""
        async with self.read() as conn:
            return await conn.run_sync(schema.revision)

    def head(self) -> str:
        """Version of the schema that this code wants."""
        return schema.head()

    async def problem(self) -> str | None:
        """What keeps this version from using the schema, and what to do."""
        found, head = await self.revision(), schema.head()
        if found == head:
            return None
        if found is None:
            return (
                "it is empty: run `errand db upgrade`, or start `errand up` or `serve`, which do it"
            )
        if schema.is_known(found):
            return f"its schema is {found}, this version needs {head}: run `errand db upgrade`"
        return f"its schema {found} is a newer version's than {head}: install that version again"

    async def close(self) -> None:
        """Release connections. Safe twice."""
        await self.duty.close()
        await self._writer.dispose()
        await self._reader.dispose()


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    with _translated():
        async with AsyncExitStack() as stack:
            try:
                tx = await stack.enter_async_context(engine.begin())
            except OSError as error:
                reason = f"{type(error).__name__}: {error}"
                raise StoreUnavailableError(reason) from error
            yield tx


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise store_error(error) from error


async def _upgrade(url: URL) -> None:
    engine = open_migration_engine(url)
    try:
        async with _transaction(engine) as tx:
            await tx.run_sync(_upgrade_alone)
    finally:
        await engine.dispose()


def _upgrade_alone(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(WRITER)
    schema.upgrade(connection)
