"""A backup made while everything works, put back elsewhere: nothing is missing, and nothing is said twice."""

import asyncio
import gzip
import shutil
import tarfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from bot.alone import alone
from bot.archive import MANIFEST
from bot.backup import back_up
from bot.errors import SetupError
from bot.intake import utc_now
from bot.record import record
from bot.restore import restore
from bot.restored import lowest_fence
from bot.settings import Settings, load_settings
from bot.states import TaskState
from bot.store import audit, outbox, tasks
from bot.store.engine import Store
from integrations.localforge.forge import LocalForge
from runner.identity import DataDirTakenError, host_name, sole_worker
from tests.support.git_server import run_git
from tests.support.store import NOW, a_message, a_task, sqlite_template

__all__ = ["sqlite_template"]
TASK = a_task(state=TaskState.RUNNING, fence=1)


def settings_for(place: Path) -> Settings:
    policy = place.parent / "policy-elsewhere.yml"
    policy.write_text("version: 1\n")
    return load_settings({}, data_dir=place, policy_file=policy)


@pytest.fixture
async def store(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Store]:
    """The store of an installation that works; its connections are open all the while."""
    place = tmp_path / "data"
    place.mkdir()
    shutil.copy(sqlite_template, place / "errand.db")
    store = Store(f"sqlite:///{place / 'errand.db'}")
    async with store.begin() as tx:
        await tasks.insert(tx, TASK)
        await outbox.put(tx, a_message(task=TASK.id))
        await record(tx, now=NOW, actor="slack:U0DANA", action="start", task=TASK.id)
    forge = LocalForge(place / "forge", "http://forge")
    await forge.create_repo("acme/web", {"README.md": "hello"})
    await forge.close()
    (place / "transcripts").mkdir()
    (place / f"transcripts/{TASK.id}-1.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    (place / "worker.token").write_text("t")
    (place / "vault.key").write_text("k")
    (place / "host").write_text("here-1a2b3c")
    (place / "valkey").mkdir()
    (place / "mirrors").mkdir()
    yield store
    await store.close()


@pytest.fixture
async def backup(tmp_path: Path, store: Store) -> Path:
    assert store.file == tmp_path / "data" / "errand.db"
    file = tmp_path / "b.tar.gz"
    contents = await asyncio.to_thread(back_up, settings_for(tmp_path / "data"), file)
    assert (contents.audit_rows, contents.live) == (1, (TASK.id,))
    return file


async def restored(tmp_path: Path, backup: Path) -> Store:
    await asyncio.to_thread(restore, settings_for(tmp_path / "new"), backup)
    return Store(f"sqlite:///{tmp_path / 'new' / 'errand.db'}")


async def test_what_was_there_is_there_again(tmp_path: Path, backup: Path) -> None:
    store = await restored(tmp_path, backup)
    async with store.read() as conn:
        assert await tasks.get(conn, TASK.id) == TASK
        report = await audit.verify(conn)
    await store.close()
    assert (report.rows, report.broken_at) == (2, None)
    new = tmp_path / "new"
    assert gzip.decompress((new / f"transcripts/{TASK.id}-1.jsonl.gz").read_bytes()) == b"{}\n"
    assert (new / "worker.token").read_text() == "t"
    assert (new / "vault.key").read_text() == "k"
    assert host_name(new) == "here-1a2b3c"
    assert (new / "policy.yml").read_text() == "version: 1\n"
    assert not (new / "valkey").exists()
    assert run_git(new / "forge/acme/web.git", "show", "HEAD:README.md") == b"hello"


async def test_a_backup_is_of_one_moment_whatever_is_written_meanwhile(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "b.tar.gz"

    async def write() -> None:
        for n in range(2, 60):
            async with store.begin() as tx:
                await tasks.insert(tx, a_task(n))
                await record(tx, now=NOW, actor="slack:U0DANA", action="start", task=a_task(n).id)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(asyncio.to_thread(back_up, settings_for(tmp_path / "data"), file))
    copy = await restored(tmp_path, file)
    async with copy.read() as conn:
        report = await audit.verify(conn)
        found = await tasks.listing(conn, limit=1000)
    await copy.close()
    assert report.broken_at is None
    assert report.rows == len(found) + 1


async def test_after_a_restore_no_run_gets_a_number_that_was_given(
    tmp_path: Path, backup: Path
) -> None:
    store = await restored(tmp_path, backup)
    async with store.begin() as tx:
        assert await lowest_fence(tx) == 1001
    await store.close()


async def test_after_a_restore_what_waits_is_looked_for_before_it_is_said(
    tmp_path: Path, backup: Path
) -> None:
    store = await restored(tmp_path, backup)
    async with store.begin() as tx:
        [row] = await outbox.claim(tx, now=utc_now(), lease_seconds=30, limit=1)
    await store.close()
    assert row.first_claim_at == NOW
    assert row.claim_until is not None
    assert row.first_claim_at < row.claim_until - timedelta(seconds=30)


async def test_a_host_that_has_a_name_keeps_it(tmp_path: Path, backup: Path) -> None:
    name = host_name(tmp_path / "new")
    store = await restored(tmp_path, backup)
    await store.close()
    assert host_name(tmp_path / "new") == name


@pytest.mark.parametrize("there", ["errand.db", "errand.db-wal", "forge/x", "worker.token"])
def test_nothing_is_restored_over_data(tmp_path: Path, backup: Path, there: str) -> None:
    path = tmp_path / "new" / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(SetupError, match="there are data already"):
        restore(settings_for(tmp_path / "new"), backup)
    assert path.read_text() == "mine"


def test_nothing_is_restored_beneath_a_serve_or_a_work(tmp_path: Path, backup: Path) -> None:
    new = tmp_path / "new"
    settings = settings_for(new)
    with alone(new / "errand.db"), pytest.raises(SetupError, match="another `errand serve`"):
        restore(settings, backup)
    with sole_worker(new), pytest.raises(DataDirTakenError):
        restore(settings, backup)
    assert not (new / "errand.db").exists()


def test_a_damaged_backup_restores_nothing(tmp_path: Path, backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 0xFF
    backup.write_bytes(content)
    with pytest.raises(SetupError, match=r"damaged|can't be unpacked|not made by"):
        restore(settings_for(tmp_path / "new"), backup)
    assert not (tmp_path / "new" / "errand.db").exists()
    assert not list((tmp_path / "new").glob(".restore-*"))


def test_a_backup_that_was_cut_off_restores_nothing(tmp_path: Path, backup: Path) -> None:
    content = backup.read_bytes()
    backup.write_bytes(content[: len(content) - 100])
    with pytest.raises(SetupError):
        restore(settings_for(tmp_path / "new"), backup)


def test_a_file_that_was_exchanged_is_found(tmp_path: Path, backup: Path) -> None:
    loose = tmp_path / "loose"
    with tarfile.open(backup) as tar:
        tar.extractall(loose, filter="data")
    (loose / "worker.token").write_text("another")
    forged = tmp_path / "forged.tar.gz"
    with tarfile.open(forged, "w:gz") as tar:
        for path in sorted(loose.iterdir(), key=lambda path: path.name == MANIFEST):
            tar.add(path, path.name)
    with pytest.raises(SetupError, match=r"damaged: worker\.token"):
        restore(settings_for(tmp_path / "new"), forged)


def test_a_link_in_a_backup_is_refused(tmp_path: Path) -> None:
    forged = tmp_path / "forged.tar.gz"
    with tarfile.open(forged, "w:gz") as tar:
        link = tarfile.TarInfo("forge")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(SetupError, match="no backup of Errand's"):
        restore(settings_for(tmp_path / "new"), forged)


async def test_a_backup_of_a_newer_version_is_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    settings = settings_for(tmp_path / "data")
    async with store.begin() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = 'r9999'"))
    with pytest.raises(SetupError, match="newer version"):
        await asyncio.to_thread(back_up, settings, file)
    assert not file.exists()


def test_a_backup_is_for_its_owner_only(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600


def test_no_backup_is_written_over_another(backup: Path, tmp_path: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(SetupError, match="there already"):
        back_up(settings_for(tmp_path / "data"), backup)
    assert backup.read_bytes() == before
    assert not list(tmp_path.glob(".errand-backup-*"))


def test_a_server_is_left_to_its_own_tools(tmp_path: Path) -> None:
    settings = load_settings({}, database_url="postgresql://db.example.com/errand")
    with pytest.raises(SetupError, match="pg_dump"):
        back_up(settings, tmp_path / "b.tar.gz")
