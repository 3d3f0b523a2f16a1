"""The local forge's pull requests: one SQLite file of its own, because it plays an outside service. Blocking."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from integrations.errors import UnavailableError
from integrations.forge import PullDraft

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pulls (
  repo TEXT NOT NULL,
  number INTEGER NOT NULL,
  head TEXT NOT NULL,
  base TEXT NOT NULL,
  title TEXT NOT NULL,
  body TEXT NOT NULL,
  draft INTEGER NOT NULL,
  open INTEGER NOT NULL DEFAULT 1,
  opened_at TEXT NOT NULL,
  PRIMARY KEY (repo, number)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_per_head ON pulls (repo, head) WHERE open = 1;
"""
_COLUMNS = "repo, number, head, base, title, body, draft, open, opened_at"
_WAIT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRow:
    repo: str
    number: int
    head: str
    base: str
    title: str
    body: str
    draft: bool
    open: bool
    opened_at: str


class Pulls:
    def __init__(self, file: Path) -> None:
        self._file = file

    def open_one(self, draft: PullDraft) -> PullRow:
        """The open one for this head, made if there is none. Safe twice, also at the same time."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO pulls (repo, number, head, base, title, body, draft, opened_at)"
                " SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7"
                " FROM pulls WHERE repo = ?1 ON CONFLICT DO NOTHING",
                (
                    draft.repo, draft.head, draft.base, draft.title, draft.body, draft.draft,
                    f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                ),
            )  # fmt: skip
            rows = _rows(connection, "repo = ? AND head = ? AND open = 1", (draft.repo, draft.head))
        return rows[0]

    def find(self, repo: str, head: str) -> PullRow | None:
        """The newest for this head, open ones first."""
        with self._connection() as connection:
            rows = _rows(connection, "repo = ? AND head = ?", (repo, head))
        return max(rows, key=lambda row: (row.open, row.number), default=None)

    def get(self, repo: str, number: int) -> PullRow | None:
        with self._connection() as connection:
            rows = _rows(connection, "repo = ? AND number = ?", (repo, number))
        return rows[0] if rows else None

    def of(self, repo: str) -> list[PullRow]:
        """Newest first."""
        with self._connection() as connection:
            return _rows(connection, "repo = ?", (repo,))

    def close(self, repo: str, number: int) -> None:
        """As when somebody is done with it. Safe twice."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE pulls SET open = 0 WHERE repo = ? AND number = ?", (repo, number)
            )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, timeout=_WAIT_SECONDS)
            with contextlib.closing(connection), connection:
                connection.executescript(_SCHEMA)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError("local forge", f"{type(error).__name__}: {error}") from error


def _rows(
    connection: sqlite3.Connection, where: str, values: tuple[str | int, ...]
) -> list[PullRow]:
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM pulls WHERE {where} ORDER BY number DESC LIMIT 500",  # noqa: S608 - `where` is ours
        values,
    )
    return [
        PullRow(
            repo=repo, number=number, head=head, base=base, title=title, body=body,
            draft=bool(draft), open=bool(is_open), opened_at=opened_at,
        )
        for repo, number, head, base, title, body, draft, is_open, opened_at in found
    ]  # fmt: skip
