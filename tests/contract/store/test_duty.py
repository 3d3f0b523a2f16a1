"""Of several `serve` on one database, one has the duty."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bot.duty import Duty
from bot.store.engine import Store
from bot.store.errors import StoreUnavailableError
from tests.support.installation import until
from tests.support.postgres import PostgresServer

ROOT = Path(__file__).parents[3]
HOLDERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
    " (SELECT oid FROM pg_database WHERE datname = '{}')"
)


@pytest.fixture
async def replicas(postgres_database: str) -> AsyncIterator[tuple[Store, Store]]:
    async with AsyncExitStack() as stack:
        one, other = Store(postgres_database), Store(postgres_database)
        for store in (one, other):
            stack.push_async_callback(store.close)
        yield one, other


async def test_whoever_is_alone_has_it(store: Store) -> None:
    assert await store.duty.hold()
    assert await store.duty.hold()


@pytest.mark.postgres
async def test_one_has_it_and_gives_it_up_at_its_end(replicas: tuple[Store, Store]) -> None:
    one, other = replicas
    assert await one.duty.hold()
    assert not await other.duty.hold()
    assert await one.duty.hold()
    await one.close()
    assert await other.duty.hold()


@pytest.mark.postgres
async def test_a_killed_process_has_it_no_longer(
    replicas: tuple[Store, Store], postgres_database: str
) -> None:
    store, _ = replicas
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.on_duty", postgres_database),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    assert not await store.duty.hold()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(store.duty.hold, seconds=10, what="the duty is free")


@pytest.mark.postgres
async def test_whoever_loses_the_connection_loses_it(
    replicas: tuple[Store, Store], postgres_database: str, postgres_server: PostgresServer
) -> None:
    one, other = replicas
    assert await one.duty.hold()
    name = postgres_database.partition("@/")[2].partition("?")[0]
    pid = await asyncio.to_thread(postgres_server.sql, HOLDERS.format(name))
    await asyncio.to_thread(postgres_server.sql, f"SELECT pg_terminate_backend({pid})")
    await until(other.duty.hold, seconds=10, what="the duty is free")
    with pytest.raises(StoreUnavailableError):
        await one.duty.hold()
    assert not await one.duty.hold()


class Shift:
    """A loop, and whether it runs."""

    def __init__(self, store: Store) -> None:
        self.runs = False
        self._duty = Duty(store=store, look_seconds=0.02)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(one()) for one in (self._duty.run, self._duty.only(self._loop))
            ]
            yield
            for loop in loops:
                loop.cancel()

    async def _loop(self) -> None:
        self.runs = True
        try:
            await asyncio.Event().wait()
        finally:
            self.runs = False

    async def at_work(self) -> bool:
        return self.runs


@pytest.mark.postgres
async def test_a_loop_runs_where_the_duty_is_and_nowhere_else(
    replicas: tuple[Store, Store],
) -> None:
    one, other = replicas
    first, second = Shift(one), Shift(other)
    async with first.begun():
        await until(first.at_work, seconds=10, what="whoever is first has it")
        async with second.begun():
            assert not await other.duty.hold()
            assert not second.runs
    assert not first.runs
    async with second.begun():
        assert not await other.duty.hold()
        await one.close()
        await until(second.at_work, seconds=10, what="the other one has it")
