"""A copy of everything that can't be made again, while Errand works.

Not in it: `.env`, the embedded Redis, mirrors and caches, and what a worker knows of its runs.
"""

import asyncio
import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from bot.archive import Archive, Manifest
from bot.errors import SetupError
from bot.settings import Settings
from bot.states import LIVE
from bot.store import audit, tasks
from bot.store.connect import parse
from bot.store.engine import Store
from runner.identity import HOST

DATABASE: Final = "errand.db"
POLICY: Final = "policy.yml"
FOLDERS: Final = ("bundles", "transcripts", "pictures", "audit", "forge")
FILES: Final = ("worker.token", "vault.key")
"""Beside them the name of the host, which is no data: containers bear it."""


class Contents(BaseModel):
    """What is in a backup, or was restored from one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_at: datetime
    revision: str
    files: int
    size: int
    """Bytes of the backup."""
    audit_rows: int
    audit_problem: str
    """Empty if the record is whole."""
    live: tuple[str, ...]
    """Tasks that had not ended."""


def back_up(settings: Settings, target: Path) -> Contents:
    """Write a backup. May run while everything works; nobody waits for it.

    Raises:
        SetupError: there is nothing to copy, the target is there already, or the database is a server.
    """
    database = database_file(settings)
    if not database.is_file():
        raise SetupError(f"there is no database at {database}: is ERRAND_DATA_DIR right?")
    if target.exists():
        raise SetupError(f"{target} is there already: name another file")
    if not target.parent.is_dir():
        raise SetupError(f"there is no directory {target.parent}: make it, or name another file")
    with tempfile.TemporaryDirectory(prefix=".errand-backup-", dir=target.parent) as directory:
        copy, draft = Path(directory, DATABASE), Path(directory, "draft")
        with Archive(draft) as archive:
            # What is handed in is there before a row says so, and goes after one: so look before and after.
            archive.add_tree(settings.data_dir / "bundles", "bundles")
            _copy_database(database, copy)
            archive.add(copy, DATABASE)
            for name in FOLDERS:
                if (settings.data_dir / name).is_dir():
                    archive.add_tree(settings.data_dir / name, name)
            for name in (*FILES, HOST):
                archive.add(settings.data_dir / name, name)
            if settings.policy_file is not None:
                archive.add(settings.policy_file, POLICY)
            manifest = Manifest(
                errand=version("errand"),
                revision=asyncio.run(_revision(copy)),
                at=datetime.now(UTC),
                files=archive.files,
            )
            archive.close(manifest)
        check_database(copy)
        contents = asyncio.run(contents_of(copy, manifest, size=draft.stat().st_size))
        os.link(draft, target)
    return contents


def database_file(settings: Settings) -> Path:
    url = parse(settings.database)
    if url.get_backend_name() != "sqlite":
        raise SetupError(
            "the database is a PostgreSQL server, whose own tools copy it:"
            " `pg_dump` and `pg_restore`, as docs/runbook.md says"
        )
    return Path(url.database or "")


def _copy_database(database: Path, copy: Path) -> None:
    """SQLite's own way to copy a database in use: as it was at one moment."""
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("PRAGMA query_only=ON")
            source.backup(target)
    except sqlite3.Error as error:
        raise SetupError(f"{database} can't be copied: {error}") from error


def check_database(copy: Path) -> None:
    """Look through a database file.

    Raises:
        SetupError: it is damaged.
    """
    try:
        with closing(sqlite3.connect(copy)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
            found += connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        found = [(error,)]
    if found != [("ok",)]:
        raise SetupError(f"the copy of the database is damaged: {found[0][0]}")


async def _revision(copy: Path) -> str:
    store = Store(f"sqlite:///{copy}")
    try:
        if problem := await store.problem():
            raise SetupError(f"the database can't be used: {problem}")
        return store.head()
    finally:
        await store.close()


async def contents_of(copy: Path, manifest: Manifest, *, size: int) -> Contents:
    """What a copy holds, whose schema is this version's."""
    store = Store(f"sqlite:///{copy}")
    try:
        async with store.read() as conn:
            live = await tasks.listing(conn, states=LIVE, limit=1000)
            report = await audit.verify(conn)
    finally:
        await store.close()
    return Contents(
        made_at=manifest.at,
        revision=manifest.revision,
        files=len(manifest.files),
        size=size,
        audit_rows=report.rows,
        audit_problem=report.reason and f"row {report.broken_at}: {report.reason}",
        live=tuple(task.id for task in live),
    )
