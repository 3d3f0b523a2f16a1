"""What can go wrong with the database, by who can act on it.

StoreError
├── StoreUnavailableError  no answer, no lock in time, no space, or the connection broke: try the transaction again
├── StoreRefusedError      the database would refuse again: a bug of ours, or damage
├── StoreSettingsError     the URL names a database that Errand does not speak: the operator
└── StoreSchemaError       the schema is not one that this version knows: the operator
"""

import sqlite3

from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    PendingRollbackError,
    SQLAlchemyError,
    TimeoutError,  # noqa: A004 - SQLAlchemy's own: no free connection in time
)

from bot.errors import BotError

PASSING_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
PASSING_POSTGRES = ("08", "40", "53", "57", "58", "55P03", "25P03", "25P04")
"""Beginnings of SQLSTATEs: connection, rollback, resources, intervention, system; lock and idle time-outs."""


class StoreError(BotError):
    """Root of the store's errors."""


class StoreUnavailableError(StoreError):
    """The transaction has left nothing behind, or (lost at COMMIT) all of it. Every write is safe twice."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database is not available: {reason}")
        self.reason = reason


class StoreRefusedError(StoreError):
    """The transaction has left nothing behind, and would not the next time."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database refused: {reason}")
        self.reason = reason


class StoreSettingsError(StoreError):
    """The URL can't be used; the sentence holds no credential."""


class StoreSchemaError(StoreError):
    def __init__(self, found: str | None, *, head: str) -> None:
        super().__init__(
            f"the database has schema {found}, this version of Errand knows up to {head}: "
            "was it used by a newer version?"
        )
        self.found = found
        self.head = head


def store_error(error: SQLAlchemyError) -> StoreError:
    """What an error of SQLAlchemy means to our callers."""
    reason = _reason(error)
    return StoreUnavailableError(reason) if _passes(error) else StoreRefusedError(reason)


def _passes(error: SQLAlchemyError) -> bool:
    if isinstance(error, TimeoutError | DisconnectionError | PendingRollbackError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in PASSING_SQLITE
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(PASSING_POSTGRES)


def _reason(error: SQLAlchemyError) -> str:
    """The first line only: what follows may hold values of the row."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(error).__name__}: {str(cause).partition(chr(10))[0]}"
