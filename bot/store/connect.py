"""Engines: what SQLite and PostgreSQL must be told so that both behave the same."""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Dialect, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from bot.store.errors import StoreSettingsError, StoreUnavailableError

WAIT_SECONDS = 30
"""How long a transaction waits for its turn, on both databases."""
STATEMENT_SECONDS = 60
IDLE_SECONDS = 15
"""After this long a transaction whose process has vanished or been paused is rolled back."""
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


def parse(text: str) -> URL:
    """The URL with our driver. `StoreSettingsError` if it names no database that we speak."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise StoreSettingsError("the database URL is not a URL") from None
    kind = url.drivername.partition("+")[0]
    driver = DRIVERS.get(kind)
    if driver is None:
        raise StoreSettingsError(f"{kind} is not spoken: use sqlite:///… or postgresql://…")
    if kind == "sqlite" and url.database in {None, "", ":memory:"}:
        raise StoreSettingsError("a database in memory would forget everything: name a file")
    url = url.set(drivername=driver)
    if mode := url.query.get("sslmode"):
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url


def open_engine(url: URL, *, write: bool, statement_seconds: float) -> AsyncEngine:
    """An engine for transactions that write, or for those that only read."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, write=write, foreign_keys=True)
    engine = _postgres(url, statement_seconds=statement_seconds)
    if write:
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def open_migration_engine(url: URL) -> AsyncEngine:
    """As for writing, but tables may be rebuilt, and may take their time."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, write=True, foreign_keys=False)
    return _postgres(url, statement_seconds=0)


def _sqlite(url: URL, *, write: bool, foreign_keys: bool) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=1 if write else 4,  # writers take turns before, and not in SQLite's busy loop
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        hide_parameters=True,
    )
    pragmas = [
        f"busy_timeout={WAIT_SECONDS * 1000}",
        "synchronous=FULL",
        f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
        "journal_mode=WAL" if write else "query_only=ON",
    ]
    first = "BEGIN IMMEDIATE" if write else "BEGIN"

    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins nothing, we do
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(first)

    event.listen(engine.sync_engine, "do_connect", _make_place)
    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def _make_place(
    _dialect: Dialect, _entry: ConnectionPoolEntry, args: tuple[str, ...], _options: dict[str, Any]
) -> None:
    """The file and its folder are for our eyes only; -wal and -shm inherit the file's mode."""
    path = Path(args[0])
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))


def _postgres(url: URL, *, statement_seconds: float) -> AsyncEngine:
    settings = {
        "application_name": "errand",
        "lock_timeout": str(WAIT_SECONDS * 1000),
        "statement_timeout": str(round(statement_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(IDLE_SECONDS * 1000),
    }
    engine = create_async_engine(
        url,
        pool_size=5,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": 10,
            "command_timeout": statement_seconds * 1.5 or None,
            "server_settings": settings,
        },
    )
    event.listen(engine.sync_engine, "handle_error", _unanswered, retval=True)
    return engine


def _unanswered(context: ExceptionContext) -> BaseException | None:
    """The driver's own time-out and broken sockets are no errors of the database's kind."""
    error = context.original_exception
    if isinstance(error, OSError):
        context.is_disconnect = True
        return StoreUnavailableError(f"{type(error).__name__}: {error}")
    return None
