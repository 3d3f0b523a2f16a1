"""Redis that is there and yet takes nothing: it loads, is full, is a replica, or has lost the end of its file."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from arq.connections import RedisSettings, create_pool
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, RedisError
from structlog.testing import capture_logs

from bot.bus import Bus
from bot.states import TaskState
from runner import keys
from runner.launches import Launches
from runner.lease import Leases, Standing
from runner.protocol import RunKey
from tests.contract.flow.office import Office
from tests.contract.flow.yard import ScriptedHost, Yard, done
from tests.support.loading import loading_redis
from tests.support.loops import running
from tests.support.relay import wire
from tests.support.site import until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.redis
Order = Callable[..., Awaitable[object]]
ASK = "acme/web fix it"


@asynccontextmanager
async def impatient(url: str) -> AsyncIterator[Bus]:
    """A bus that tells at once what is wrong."""
    bus = Bus(await create_pool(RedisSettings.from_dsn(url)))
    yield bus
    await bus.close()


async def full(redis: Redis) -> None:
    await redis.config_set("maxmemory", "1")


async def roomy(redis: Redis) -> None:
    await redis.config_set("maxmemory", "0")


async def replica(redis: Redis) -> None:
    """Of a primary that is gone: what a failover leaves for a while."""
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]


async def primary(redis: Redis) -> None:
    await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]


TAKES_NOTHING = pytest.mark.parametrize(
    ("begin", "end", "error"),
    [(full, roomy, OutOfMemoryError), (replica, primary, ReadOnlyError)],
    ids=["full", "replica"],
)


@TAKES_NOTHING
async def test_nothing_begins_while_redis_takes_nothing(
    office: Office, valkey: ValkeyServer, redis: Redis, begin: Order, end: Order,
    error: type[RedisError],
) -> None:  # fmt: skip
    async with impatient(valkey.url) as bus:
        yard = Yard.of(office, bus, redis)
        await yard.host.announce()
        await office.hear(ASK)
        await begin(redis)
        with pytest.raises(error):
            await yard.dispatcher.dispatch()
        task = await office.task()
        assert (task.state, task.attempts) == (TaskState.QUEUED, 0)
        await end(redis)
        await yard.dispatcher.dispatch()
        [run] = await yard.host.take()
        await yard.tell(run, yard.host.started(), done(changed=False))
        task = await office.task()
        assert (task.state, task.attempts) == (TaskState.SUCCEEDED, 1)


@TAKES_NOTHING
async def test_a_run_goes_on_while_redis_takes_nothing(
    office: Office, valkey: ValkeyServer, redis: Redis, begin: Order, end: Order,
    error: type[RedisError],
) -> None:  # fmt: skip
    async with impatient(valkey.url) as bus:
        yard = Yard.of(office, bus, redis)
        await yard.host.announce()
        run = await yard.running()
        await begin(redis)
        async with asyncio.TaskGroup() as group:
            told = group.create_task(yard.host.tell(run, done(changed=False)))
            claimed = group.create_task(yard.host.claim(run))
            with pytest.raises(error):
                await bus.check_writable()
            await until_refused(redis, 2)
            assert not told.done()
            assert not claimed.done()
            await end(redis)
        assert claimed.result() is Standing.LIVE
        await yard.apply()
        assert (await office.task()).state is TaskState.SUCCEEDED


async def until_refused(redis: Redis, times: int) -> None:
    """So many commands were refused, by the server's own count."""
    async with asyncio.timeout(10):
        while int((await redis.info("stats"))["total_error_replies"]) <= times:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.01)


async def test_a_redis_that_loads_for_a_minute_loses_nothing(
    office: Office, valkey: ValkeyServer, redis: Redis
) -> None:
    async with (
        loading_redis(Path(valkey.url.removeprefix("unix://"))) as front,
        impatient(front.url) as bus,
        Redis.from_url(front.url) as seen_by_host,
    ):
        yard = Yard.of(office, bus, redis)
        await yard.host.announce()
        host = yard.host = ScriptedHost(seen_by_host, "h1", office)
        run = await yard.running()
        await office.hear(ASK, thread="2.0")
        front.load()
        async with asyncio.TaskGroup() as group:
            told = group.create_task(host.tell(run, done(changed=False)))
            claimed = group.create_task(host.claim(run))
            for _ in range(30):  # a minute of serve's rounds
                with pytest.raises((BusyLoadingError, RedisError)):
                    await yard.dispatcher.dispatch()
                with pytest.raises((BusyLoadingError, RedisError)):
                    await yard.dispatcher.reconcile()
                office.clock.forward(2)
            await redis.delete(keys.lease(run.task))  # it ran out meanwhile
            await until(lambda: front.refused > 60, "all were refused")
            assert not told.done()
            front.loading = False
        assert claimed.result() is Standing.LIVE
        await yard.dispatcher.reconcile()
        await yard.apply()
        await yard.dispatcher.dispatch()
        first, second = sorted(await office.tasks(), key=lambda task: task.created_at)
        assert (first.state, first.attempts) == (TaskState.SUCCEEDED, 1)
        assert (second.state, second.attempts) == (TaskState.STARTING, 1)


async def test_a_file_that_ends_while_an_event_is_forgotten_leaves_none_that_nobody_reads(
    yard: Yard, valkey: ValkeyServer
) -> None:
    await yard.running()
    await valkey.kill()
    cut_off(valkey, 1)
    await valkey.start()
    await yard.applier.step(pending=True)
    assert await yard.redis.xlen(keys.EVENTS) == 0


def cut_off(valkey: ValkeyServer, cut: int) -> None:
    directory = Path(valkey.url.removeprefix("unix://")).parent
    [file] = directory.glob("appendonlydir/*.incr.aof")
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(size - cut)


@pytest.mark.parametrize("cut", [1, 60, 600])
async def test_the_tail_of_redis_s_file_may_be_cut_off(
    yard: Yard, valkey: ValkeyServer, cut: int
) -> None:
    run = await yard.running()
    await yard.host.tell(run, done(changed=False))
    await valkey.kill()
    cut_off(valkey, cut)
    await valkey.start()

    await yard.applier.step(pending=True)  # as after every outage
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(run) is Standing.LIVE
    await yard.tell(run, yard.host.started(), done(changed=False))
    task = await yard.office.task()
    assert (task.state, task.attempts) == (TaskState.SUCCEEDED, 1)
    assert len(await yard.office.finals()) == 1


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_host_whose_clock_is_wrong_keeps_its_run(yard: Yard, minutes: int) -> None:
    """Leases run by Redis' clock, the grace by `serve`'s, and neither compares with the host's."""
    elsewhere = Office(store=yard.office.store)
    elsewhere.clock.at = yard.office.clock.at + timedelta(minutes=minutes)
    yard.host = ScriptedHost(yard.redis, "h1", elsewhere)
    run = await yard.running()
    assert 0 < await yard.redis.pttl(keys.lease(run.task)) <= 30_000
    await yard.wait_out_the_grace()
    assert (await yard.office.task()).fence == 1
    other = await Leases(yard.redis, host="h2").claim(run)
    assert other.standing is Standing.TAKEN
    elsewhere.clock.forward(90)
    yard.office.clock.forward(90)
    await yard.tell(run, done(changed=False))
    [word] = await yard.office.finals()
    assert word.outcome == "unchanged"
    assert word.elapsed_seconds >= 0
    assert all((card.elapsed_seconds or 0) >= 0 for card in await yard.office.cards())


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_serve_whose_clock_jumps_gives_up_no_run(yard: Yard, minutes: int) -> None:
    """Which run is lost is counted by a clock that only goes forward."""
    run = await yard.running()
    await yard.host.fall_silent(run)
    await yard.dispatcher.reconcile()
    before = yard.office.clock.at
    yard.dispatcher.now = lambda: before + timedelta(minutes=minutes)
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(run) is Standing.LIVE
    assert (await yard.office.task()).state is TaskState.RUNNING


async def test_events_come_where_redis_has_vanished_without_a_word(
    yard: Yard, valkey: ValkeyServer
) -> None:
    run = await yard.running()
    path = Path(valkey.url.removeprefix("unix://"))
    async with wire(path.with_name("wire"), path) as line:
        bus = Bus(await create_pool(RedisSettings.from_dsn(line.url)), answer_seconds=0.1)
        await bus.prepare_events()
        line.silence()
        await yard.host.tell(run, done(changed=False))
        with pytest.raises(TimeoutError):
            await bus.events(count=9, block_ms=500, pending=False)
        found = await bus.events(count=9, block_ms=500, pending=False)
        assert [one.record.run for one in found if one.record] == [run]
        await bus.close()


async def test_a_launch_is_due_for_a_host_whose_clock_is_far_behind(yard: Yard) -> None:
    run = await yard.starting()
    behind = (datetime.now(UTC) - timedelta(hours=23)).timestamp() * 1000
    due = await yard.redis.zrangebyscore(keys.run_queue("default"), "-inf", behind)
    assert due == [f"run:{run}".encode()]
    assert await yard.redis.pttl(f"arq:job:run:{run}") > 0


async def test_a_fault_of_the_queue_s_own_ends_no_worker() -> None:
    async def begin(_run: RunKey) -> None:
        raise AssertionError("nothing is launched")

    launches = Launches(redis_url="nonsense://", host="h", pool="default", begin=begin)
    with capture_logs() as logs:
        async with running(launches.run()) as taking:
            await until(lambda: "queue_broke" in {line["event"] for line in logs})
            assert not taking.done()


async def test_a_job_of_a_name_unknown_here_holds_up_nothing_and_is_not_lost(
    yard: Yard, valkey: ValkeyServer
) -> None:
    """A worker of an earlier version takes it from the queue, and can do nothing with it."""
    run = await yard.starting()
    queue, job = keys.run_queue("default"), f"run:{run}"
    await yard.redis.delete(f"arq:job:{job}", queue)
    pool = await create_pool(
        RedisSettings.from_dsn(valkey.url),
        job_serializer=keys.serialize,
        job_deserializer=keys.deserialize,
    )
    await pool.enqueue_job("launch2", run.task, run.fence, _job_id=job, _queue_name=queue)
    known = RunKey(task="02jz", fence=1)
    await pool.enqueue_job(
        keys.LAUNCH, known.task, known.fence, _job_id=f"run:{known}", _queue_name=queue
    )
    await pool.aclose(close_connection_pool=True)

    begun: list[RunKey] = []

    async def begin(run: RunKey) -> None:
        begun.append(run)

    launches = Launches(redis_url=valkey.url, host="old", pool="default", begin=begin)
    async with running(launches.run()):
        await until(lambda: begun == [known], "the other one begins")
        async with asyncio.timeout(10):
            while await yard.redis.zcard(queue):  # noqa: ASYNC110 - Redis sets no event
                await asyncio.sleep(0.01)

    await yard.wait_out_the_grace()
    assert await yard.again() == RunKey(task=run.task, fence=run.fence + 1)
