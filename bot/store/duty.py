"""What only one of several `serve` on a database may do: the one that holds a lock, for as long as it lives."""

import asyncio

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.store.errors import StoreUnavailableError, store_error

TAKE = text("SELECT pg_try_advisory_lock(4919131752989213765)")
STILL_THERE = text("SELECT 1")
# A host that vanished does not say goodbye, and neither does a process that stands still. Servers before 14 know only
# the former.
WATCH = [
    text("SET tcp_keepalives_idle = 5"),
    text("SET tcp_keepalives_interval = 5"),
    text("SET tcp_keepalives_count = 3"),
    text(
        "SELECT set_config(name, '20s', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
    ),
]


class DutyLock:
    """PostgreSQL frees it when its holder dies. Of a file there is only one user, who always has it."""

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` is for this alone."""
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._asking = asyncio.Lock()

    async def hold(self) -> bool:
        """Take it, or make sure that it is still ours; True if it is. Ask every few seconds.

        Raises:
            StoreError: nobody knows whose it is, so it is not ours.
        """
        if self._engine.dialect.name != "postgresql":
            return True
        try:
            async with self._asking:
                return await self._ask()
        except SQLAlchemyError as error:
            raise store_error(error) from error
        except OSError as error:
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error

    async def let_go(self) -> None:
        """Safe twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Given back to the pool alive, it would keep the lock.
            await connection.invalidate()
            await connection.close()

    async def close(self) -> None:
        await self.let_go()
        await self._engine.dispose()

    async def _ask(self) -> bool:
        ours = False
        try:
            if self._connection is not None:
                await self._connection.execute(STILL_THERE)
                ours = True
            else:
                ours = await self._take()
        finally:
            if not ours:
                await self.let_go()
        return ours

    async def _take(self) -> bool:
        self._connection = await self._engine.connect()
        await self._connection.execution_options(isolation_level="AUTOCOMMIT")
        for setting in WATCH:
            await self._connection.execute(setting)
        return bool((await self._connection.execute(TAKE)).scalar_one())
