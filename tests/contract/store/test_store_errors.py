"""Errors: each one of the database's becomes one of ours, by who can act."""

import inspect
import re
import sqlite3

import pytest
from sqlalchemy import exc

from bot.store import errors
from bot.store.errors import StoreError, StoreRefusedError, StoreUnavailableError, store_error


class _Postgres(Exception):  # noqa: N818 - stands for the driver's error
    def __init__(self, sqlstate: str) -> None:
        super().__init__("secret\nDETAIL: Key (text)=(hello)")
        self.sqlstate = sqlstate


def _sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("no luck")
    error.sqlite_errorcode = code
    return error


def _wrapped(cause: Exception, *, invalidated: bool = False) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT", {}, cause, connection_invalidated=invalidated)


@pytest.mark.parametrize(
    "error",
    [
        _wrapped(_sqlite(sqlite3.SQLITE_BUSY)),
        _wrapped(_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT)),
        _wrapped(_sqlite(sqlite3.SQLITE_FULL)),
        _wrapped(_sqlite(sqlite3.SQLITE_IOERR_FSYNC)),
        _wrapped(_Postgres("40P01")),
        _wrapped(_Postgres("53300")),
        _wrapped(_Postgres("55P03")),
        _wrapped(_Postgres("57P01")),
        _wrapped(_Postgres(""), invalidated=True),
        exc.TimeoutError(),
        exc.DisconnectionError(),
        exc.PendingRollbackError(),
    ],
)
def test_what_passes_is_worth_another_try(error: exc.SQLAlchemyError) -> None:
    assert type(store_error(error)) is StoreUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        _wrapped(_sqlite(sqlite3.SQLITE_CONSTRAINT_UNIQUE)),
        _wrapped(_sqlite(sqlite3.SQLITE_CORRUPT)),
        _wrapped(_sqlite(sqlite3.SQLITE_READONLY)),
        _wrapped(_Postgres("23505")),
        _wrapped(_Postgres("28P01")),
        _wrapped(_Postgres("42P01")),
        exc.StatementError("bad value", "SELECT", {}, ValueError("x")),
    ],
)
def test_what_does_not_pass_is_refused(error: exc.SQLAlchemyError) -> None:
    assert type(store_error(error)) is StoreRefusedError


def test_the_sentence_holds_no_value_of_the_row() -> None:
    assert "hello" not in str(store_error(_wrapped(_Postgres("23505"))))


def _made(kind: type[exc.SQLAlchemyError]) -> exc.SQLAlchemyError:
    if issubclass(kind, exc.DBAPIError):
        return kind("SELECT", {}, Exception("no luck"))
    if issubclass(kind, exc.StatementError):
        return kind("no luck", "SELECT", {}, None)
    return kind.__new__(kind, "no luck")


def test_every_error_of_sqlalchemy_has_a_meaning() -> None:
    known = [c for _, c in inspect.getmembers(exc, inspect.isclass)]
    for kind in (c for c in known if issubclass(c, exc.SQLAlchemyError)):
        assert isinstance(store_error(_made(kind)), StoreError)


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = set(re.findall(r"Store\w+Error|StoreError", errors.__doc__ or ""))
    classes = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, StoreError)
    }
    assert drawn == classes
