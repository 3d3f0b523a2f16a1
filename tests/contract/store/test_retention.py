"""What is old goes, what is needed stays, and the audit record can still be verified."""

import gzip
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from bot import auditfiles
from bot.pictures import note_pictures
from bot.retention import Retention
from bot.settings import RetentionSettings
from bot.states import TaskState
from bot.store import audit, events, inbox, tasks
from bot.store.audit import Checkpoint
from bot.store.engine import Store
from bot.store.errors import StoreRefusedError
from bot.store.rows import AuditEntry
from integrations.channel import Picture
from tests.support.store import NOW, a_task, an_event, an_inbound

OLD, YOUNG = NOW - timedelta(days=100), NOW - timedelta(days=5)


def retention(store: Store, place: Path, **settings: int) -> Retention:
    return Retention(
        store=store,
        settings=RetentionSettings(**settings),
        data_dir=place,
        now=lambda: NOW,
        pause_seconds=0,
    )


async def _task(store: Store, n: int, *, created: object, ended: object, events_: int) -> str:
    state = TaskState.RUNNING if ended is None else TaskState.SUCCEEDED
    task = a_task(n, created_at=created, changed_at=created, ended_at=ended, state=state)
    async with store.begin() as tx:
        await tasks.insert(tx, task)
        await events.insert_many(tx, [an_event(task.id, i) for i in range(events_)], now=NOW)
    return task.id


async def _events_left(store: Store, task: str) -> int:
    async with store.read() as conn:
        return len(await events.of_task(conn, task))


async def test_events_of_tasks_that_ended_long_ago_go(store: Store, tmp_path: Path) -> None:
    old = await _task(store, 1, created=OLD, ended=OLD, events_=1203)
    lasting = await _task(store, 2, created=OLD, ended=None, events_=2)
    reopened = await _task(store, 3, created=OLD, ended=YOUNG, events_=2)
    also_old = await _task(store, 4, created=OLD, ended=OLD, events_=1)
    young = await _task(store, 5, created=YOUNG, ended=YOUNG, events_=2)
    gone = await retention(store, tmp_path).step()
    assert gone["events"] == 1204
    left = [await _events_left(store, t) for t in (old, lasting, reopened, also_old, young)]
    assert left == [0, 2, 2, 0, 2]
    assert (await retention(store, tmp_path).step())["events"] == 0


async def test_nothing_goes_that_is_kept_for_ever(store: Store, tmp_path: Path) -> None:
    old = await _task(store, 1, created=OLD, ended=OLD, events_=3)
    never = {f"{what}_days": 0 for what in ("events", "transcripts", "bundles", "inbox")}
    assert await retention(store, tmp_path, **never).step() == {}
    assert await _events_left(store, old) == 3


async def test_deliveries_that_were_dealt_with_go_and_new_ones_stay(
    store: Store, tmp_path: Path
) -> None:
    async with store.begin() as tx:
        for n, received in enumerate([OLD] * 1100 + [YOUNG] * 3):
            await inbox.insert(tx, an_inbound(n), now=received)
        await tx.execute(text("UPDATE inbox SET state = 'done' WHERE id <> 1"))
    gone = await retention(store, tmp_path).step()
    assert gone["deliveries"] == 1099
    async with store.read() as conn:
        assert await inbox.backlog(conn) == 1
        left = await conn.execute(text("SELECT count(*) FROM inbox"))
        assert left.scalar_one() == 4


async def test_a_delivery_within_the_window_is_still_known(store: Store, tmp_path: Path) -> None:
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(1), now=NOW - timedelta(days=6, hours=23))
        await tx.execute(text("UPDATE inbox SET state = 'done'"))
    await retention(store, tmp_path, inbox_days=7).step()
    async with store.begin() as tx:
        assert not await inbox.insert(tx, an_inbound(1), now=NOW)


def test_a_window_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="7 days at least"):
        RetentionSettings(inbox_days=3)


async def test_old_files_go(store: Store, tmp_path: Path) -> None:
    for folder, name in (("transcripts", "t.jsonl.gz"), ("bundles", "t.bundle")):
        for age, prefix in ((100, "old"), (5, "young")):
            path = tmp_path / folder / f"{prefix}-{name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
            then = (NOW - timedelta(days=age)).timestamp()
            os.utime(path, (then, then))
    gone = await retention(store, tmp_path).step()
    assert (gone["transcripts"], gone["bundles"]) == (1, 1)
    left = sorted(
        p.name for name in ("bundles", "transcripts") for p in (tmp_path / name).iterdir()
    )
    assert left == ["young-t.bundle", "young-t.jsonl.gz"]


def _old_file(place: Path, name: str) -> Path:
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (OLD.timestamp(), OLD.timestamp()))
    return path


async def _task_in(store: Store, n: int, state: TaskState, *, pictures: str = "") -> str:
    task = a_task(n, state=state, created_at=OLD, changed_at=OLD)
    given = [Picture(name=name * 64, kind="image/png") for name in pictures]
    async with store.begin() as tx:
        await tasks.insert(tx, task)
        await note_pictures(tx, task.id, task.round, given)
    return task.id


async def test_what_a_run_handed_in_stays_until_its_task_has_ended(
    store: Store, tmp_path: Path
) -> None:
    waiting = await _task_in(store, 1, TaskState.PUBLISHING)
    ended = await _task_in(store, 2, TaskState.FAILED)
    names = ("bundles/{}-2.bundle", "bundles/{}-2.json", "transcripts/{}-1.jsonl.gz")
    needed = [_old_file(tmp_path, name.format(waiting)) for name in names]
    useless = [_old_file(tmp_path, name.format(ended)) for name in names]
    gone = await retention(store, tmp_path).step()
    assert (gone["transcripts"], gone["bundles"]) == (1, 2)
    assert all(path.exists() for path in needed)
    assert not any(path.exists() for path in useless)


async def test_pictures_stay_until_no_task_that_has_them_is_left_to_run(
    store: Store, tmp_path: Path
) -> None:
    await _task_in(store, 1, TaskState.QUEUED, pictures="ab")
    await _task_in(store, 2, TaskState.SUCCEEDED, pictures="bc")
    files = {name: _old_file(tmp_path, f"pictures/{name * 64}") for name in "abcd"}
    assert (await retention(store, tmp_path).step())["transcripts"] == 2
    assert {name for name, path in files.items() if path.exists()} == {"a", "b"}


async def _record(store: Store, *times: object) -> None:
    async with store.begin() as tx:
        for n, at in enumerate(times):
            values = {"at": at, "actor": "slack:U0DANA", "action": "start", "detail": {"n": n}}
            await audit.append(tx, AuditEntry.model_validate(values))


async def test_the_record_is_cut_off_and_still_verified(store: Store, tmp_path: Path) -> None:
    await _record(store, *[OLD] * 700, *[YOUNG] * 3)
    gone = await retention(store, tmp_path, audit_days=90).step()
    assert gone["audit"] == 700
    async with store.read() as conn:
        report = await audit.verify(conn)
        cuts = await audit.checkpoints(conn)
    assert (report.rows, report.broken_at) == (3, None)
    assert report.checkpoint is not None
    assert (report.checkpoint.upto, report.checkpoint.file) == (700, "audit-1-700.jsonl.gz")
    packed = (tmp_path / "audit" / "audit-1-700.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert [row["id"] for row in rows] == list(range(1, 701))
    assert auditfiles.verify(tmp_path / "audit", cuts) == {"audit-1-700.jsonl.gz": ""}


async def test_the_record_goes_on_after_a_cut_and_is_cut_again(
    store: Store, tmp_path: Path
) -> None:
    await _record(store, OLD, OLD)
    await retention(store, tmp_path, audit_days=90).step()
    await _record(store, OLD, YOUNG)
    await retention(store, tmp_path, audit_days=90).step()
    await _record(store, NOW)
    async with store.read() as conn:
        report = await audit.verify(conn)
        cuts = await audit.checkpoints(conn)
    assert (report.rows, report.broken_at) == (2, None)
    assert [cut.upto for cut in cuts] == [1, 3]
    assert set(auditfiles.verify(tmp_path / "audit", cuts).values()) == {""}


async def test_by_default_the_record_is_never_cut(store: Store, tmp_path: Path) -> None:
    await _record(store, OLD, OLD, OLD)
    assert "audit" not in await retention(store, tmp_path).step()
    async with store.read() as conn:
        assert (await audit.verify(conn)).rows == 3


async def test_a_broken_record_is_not_cut(store: Store, tmp_path: Path) -> None:
    await _record(store, OLD, OLD, OLD, NOW)
    async with store.begin() as tx:
        for name in ("no_update",) if store.dialect == "sqlite" else ():
            await tx.execute(text(f"DROP TRIGGER audit_{name}"))
        if store.dialect == "postgresql":
            await tx.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        await tx.execute(text("UPDATE audit SET actor = 'slack:U0EVE' WHERE id = 2"))
    assert (await retention(store, tmp_path, audit_days=90).step())["audit"] == 0
    async with store.read() as conn:
        assert (await audit.verify(conn)).broken_at == 2


async def _cut(store: Store, upto: int, digest: str) -> None:
    async with store.begin() as tx:
        point = Checkpoint(upto=upto, hash=digest, at="", file="f", sha256="s")
        await audit.cut(tx, point)


async def test_the_database_refuses_what_a_checkpoint_does_not_stand_for(store: Store) -> None:
    await _record(store, OLD, OLD, OLD, NOW)

    async def statement(words: str) -> None:
        async with store.begin() as tx:
            await tx.execute(text(words))

    with pytest.raises(StoreRefusedError, match="a row of the audit record"):
        await _cut(store, 2, "f" * 64)
    async with store.read() as conn:
        second = await conn.execute(text("SELECT hash FROM audit WHERE id = 2"))
        digest = str(second.scalar_one())
    await _cut(store, 2, digest)
    for words in (
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 3",
        "UPDATE audit SET actor = 'slack:U0EVE' WHERE id = 1",
        "UPDATE audit_checkpoint SET upto = 4",
        "DELETE FROM audit_checkpoint",
    ):
        with pytest.raises(StoreRefusedError):
            await statement(words)
    with pytest.raises(StoreRefusedError):
        await _cut(store, 1, digest)
    await statement("DELETE FROM audit WHERE id <= 2")
    async with store.read() as conn:
        report = await audit.verify(conn)
    assert (report.rows, report.broken_at) == (2, None)


async def test_a_file_that_was_changed_or_lost_is_named(store: Store, tmp_path: Path) -> None:
    await _record(store, OLD, OLD, NOW)
    await retention(store, tmp_path, audit_days=90).step()
    async with store.read() as conn:
        cuts = await audit.checkpoints(conn)
    file = tmp_path / "audit" / "audit-1-2.jsonl.gz"
    file.write_bytes(file.read_bytes() + b"x")
    assert auditfiles.verify(tmp_path / "audit", cuts)[file.name].startswith("its content")
    file.unlink()
    assert auditfiles.verify(tmp_path / "audit", cuts)[file.name] == "it is not here"
