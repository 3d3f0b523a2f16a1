"""Transactions: all or nothing, one writer at a time, errors of ours."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from bot.states import TaskState
from bot.store import cursors, events, inbox, tasks
from bot.store.engine import Store
from bot.store.errors import StoreRefusedError, StoreUnavailableError
from tests.support.postgres import PostgresServer
from tests.support.store import NOW, a_task, an_event, an_inbound, at

ROOT = Path(__file__).parents[3]


async def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    async def writes_and_raises() -> None:
        async with store.begin() as tx:
            await inbox.insert(tx, an_inbound(), now=NOW)
            await tasks.insert(tx, a_task())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writes_and_raises()
    async with store.read() as conn:
        assert await inbox.backlog(conn) == 0
        assert await tasks.get(conn, a_task().id) is None


async def test_a_cancelled_block_leaves_nothing_and_holds_up_nobody(store: Store) -> None:
    inside = asyncio.Event()

    async def never_ends() -> None:
        async with store.begin() as tx:
            await inbox.insert(tx, an_inbound(), now=NOW)
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        block = group.create_task(never_ends())
        await inside.wait()
        block.cancel()
    async with store.begin() as tx:
        assert await inbox.backlog(tx) == 0


async def test_a_killed_process_leaves_nothing_and_holds_up_nobody(store_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.open_transaction", store_url),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"inserted\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    store = Store(store_url)
    async with asyncio.timeout(20), store.begin() as tx:
        assert await inbox.backlog(tx) == 0
        assert await inbox.insert(tx, an_inbound(), now=NOW)
    await store.close()


async def test_what_was_committed_is_seen_by_another_process(store_url: str) -> None:
    one, other = Store(store_url), Store(store_url)
    async with one.begin() as tx:
        await inbox.insert(tx, an_inbound(), now=NOW)
    async with other.read() as conn:
        assert await inbox.backlog(conn) == 1
    await one.close()
    await other.close()


async def test_what_was_read_in_a_transaction_still_holds_when_it_writes(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(3)]

    async def add_one(store: Store) -> None:
        async with store.begin() as tx:
            value = int(await cursors.get(tx, "n") or 0)
            await cursors.put(tx, "n", str(value + 1))

    async with asyncio.TaskGroup() as group:
        for n in range(60):
            group.create_task(add_one(stores[n % 3]))
    async with stores[0].read() as conn:
        assert await cursors.get(conn, "n") == "60"
    for store in stores:
        await store.close()


async def test_a_reader_waits_for_no_writer_and_sees_one_moment(store: Store) -> None:
    async with store.read() as before:
        assert await inbox.backlog(before) == 0
        async with store.begin() as tx:
            await inbox.insert(tx, an_inbound(), now=NOW)
            async with store.read() as during:
                assert await inbox.backlog(during) == 0
        assert await inbox.backlog(before) == 0
    async with store.read() as after:
        assert await inbox.backlog(after) == 1


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(StoreRefusedError):
        async with store.read() as conn:
            await inbox.insert(conn, an_inbound(), now=NOW)


async def test_a_statement_that_the_database_refuses_is_our_error(store: Store) -> None:
    with pytest.raises(StoreRefusedError):
        async with store.begin() as tx:
            await tx.execute(text("SELECT * FROM no_such_table"))


async def test_a_row_that_refers_to_nothing_is_refused(store: Store) -> None:
    with pytest.raises(StoreRefusedError) as refused:
        async with store.begin() as tx:
            await events.insert(tx, an_event("no-such-task", 1), now=NOW)
    assert "said 1" not in str(refused.value)


async def test_errors_of_others_pass_through_unchanged(store: Store) -> None:
    for error in (OSError("a file of yours"), TimeoutError("a limit of yours")):
        with pytest.raises(type(error)) as raised:
            async with store.begin():
                raise error
        assert raised.value is error


async def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(StoreRefusedError):
        async with store.begin() as tx:
            await inbox.insert(tx, an_inbound(), now=NOW.replace(tzinfo=None))


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(f"sqlite:///{tmp_path / 'file' / 'errand.db'}")
    with pytest.raises(StoreUnavailableError):
        async with store.begin():
            pass
    await store.close()


async def test_a_server_that_does_not_listen_is_unavailable(tmp_path: Path) -> None:
    store = Store(f"postgresql://errand@/errand?host={tmp_path}")
    with pytest.raises(StoreUnavailableError):
        async with store.read():
            pass
    await store.close()


@pytest.mark.postgres
async def test_a_database_that_is_not_there_is_refused(postgres_server: PostgresServer) -> None:
    store = Store(postgres_server.url("no_such_database"))
    with pytest.raises(StoreRefusedError):
        async with store.begin():
            pass
    await store.close()


@pytest.mark.postgres
async def test_a_connection_that_breaks_is_unavailable_and_the_next_one_works(
    postgres_database: str, postgres_server: PostgresServer
) -> None:
    store = Store(postgres_database)
    await store.upgrade()

    async def loses_its_connection() -> None:
        async with store.begin() as tx:
            await inbox.insert(tx, an_inbound(), now=NOW)
            mine = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await asyncio.to_thread(postgres_server.sql, f"SELECT pg_terminate_backend({mine})")
            await inbox.insert(tx, an_inbound(2), now=NOW)

    with pytest.raises(StoreUnavailableError):
        await loses_its_connection()
    async with store.begin() as tx:
        assert await inbox.backlog(tx) == 0
    await store.close()


@pytest.mark.postgres
@pytest.mark.parametrize("server_gives_up", [True, False])
async def test_a_statement_without_an_answer_is_unavailable(
    postgres_database: str, *, server_gives_up: bool
) -> None:
    store = Store(postgres_database, statement_seconds=0.4)

    async def waits() -> None:
        async with store.begin() as tx:
            if not server_gives_up:
                await tx.execute(text("SET LOCAL statement_timeout = 0"))
            await tx.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(StoreUnavailableError):
        await waits()
    async with store.read() as conn:
        assert (await conn.execute(text("SELECT 1"))).scalar_one() == 1
    await store.close()


async def test_every_text_can_be_stored(store: Store) -> None:
    odd = "nul \x00, half a pair \ud83d, 👀, \u202e"
    async with store.begin() as tx:
        await tasks.insert(tx, a_task(grant={"text": "nul \x00 👀"}))
        await tasks.update(tx, a_task().id, reason=odd, title=odd)
    async with store.read() as conn:
        row = await tasks.get(conn, a_task().id)
    assert row is not None
    assert row.reason == row.title == "nul \ufffd, half a pair ?, 👀, \u202e"
    assert row.grant == {"text": "nul \x00 👀"}
    assert row.state is TaskState.QUEUED
    assert row.created_at == at(1)
    assert row.created_at.utcoffset() is not None
