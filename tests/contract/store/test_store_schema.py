"""The schema: made by migrations alone, and the same as `tables.py` says."""

import asyncio
import re
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from bot.store import inbox, schema
from bot.store.connect import parse
from bot.store.engine import Store
from bot.store.errors import StoreSchemaError, StoreSettingsError
from bot.store.tables import metadata
from tests.support.store import NOW, an_inbound


def _difference(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": False}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_migrations_from_nothing_give_the_tables_of_the_code(store: Store) -> None:
    async with store.read() as conn:
        assert await conn.run_sync(_difference) == []


async def test_an_empty_database_has_no_revision(empty_url: str) -> None:
    store = Store(empty_url)
    assert await store.revision() is None
    await store.close()


async def test_upgrade_leads_to_head_and_a_second_one_changes_nothing(store: Store) -> None:
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(), now=NOW)
    await store.upgrade()
    assert await store.revision() == store.head()
    async with store.read() as conn:
        assert await inbox.backlog(conn) == 1


async def test_replicas_that_upgrade_at_once_do_not_get_in_each_others_way(empty_url: str) -> None:
    stores = [Store(empty_url) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for store in stores:
            group.create_task(store.upgrade())
    assert await stores[0].revision() == stores[0].head()
    for store in stores:
        await store.close()


async def test_a_schema_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    async with store.begin() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = 'r9999'"))
    with pytest.raises(StoreSchemaError) as refused:
        await store.upgrade()
    assert (refused.value.found, refused.value.head) == ("r9999", store.head())
    assert await store.revision() == "r9999"


def _upgrade_and_die(connection: Connection) -> None:
    schema.upgrade(connection)
    raise ZeroDivisionError


async def test_an_upgrade_that_dies_half_way_leaves_an_empty_database(empty_url: str) -> None:
    store = Store(empty_url)
    with pytest.raises(ZeroDivisionError):
        async with store.begin() as tx:
            await tx.run_sync(_upgrade_and_die)
    assert await store.revision() is None
    await store.upgrade()
    assert await store.revision() == store.head()
    await store.close()


def test_revisions_form_one_line() -> None:
    history = ScriptDirectory(str(schema.MIGRATIONS)).walk_revisions()
    names = [revision.revision for revision in history][::-1]
    assert names == sorted(set(names))
    assert all(re.fullmatch(r"r\d{4}", name) for name in names)


async def test_a_sqlite_file_and_its_folder_are_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "errand.db"
    store = Store(f"sqlite:///{path}")
    await store.upgrade()
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(), now=NOW)
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    await store.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(["errand.db", "errand.db-shm", "errand.db-wal"], 0o600)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 30_000)],
)
async def test_sqlite_is_told_to_be_durable_and_patient(
    tmp_path: Path, pragma: str, value: object
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'errand.db'}")
    async with store.begin() as tx:
        assert (await tx.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value
    await store.close()


@pytest.mark.parametrize(
    "url",
    ["", "mysql://db.example.com/errand", "sqlite://", "sqlite:///:memory:", "not a url"],
)
def test_a_url_that_names_no_database_we_speak_is_refused(url: str) -> None:
    with pytest.raises(StoreSettingsError):
        Store(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(StoreSettingsError) as refused:
        Store("mysql://errand:hunter2@db.example.com/errand")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_the_usual_spellings_of_a_postgresql_url_are_understood(scheme: str) -> None:
    url = parse(f"{scheme}://errand@db.example.com/errand?sslmode=require")
    assert url.drivername == "postgresql+asyncpg"
    assert url.query == {"ssl": "require"}
