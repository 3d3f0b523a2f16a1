"""A host's worker: launches from a real queue, and everything that bears its name."""

import asyncio
import json
import os
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from arq.connections import RedisSettings, create_pool
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs
from typing_extensions import override

from bot.work_metrics import WorkMetrics
from runner import keys
from runner.identity import DataDirTakenError, host_name, sole_worker
from runner.lease import Leases
from runner.mirror import Checkout, Mirrors
from runner.protocol import Command, Finished, Launch, RunKey
from runner.serve_client import GitAccess
from runner.testing import MemoryBackend
from runner.worker import Shift, Worker, WorkerConfig
from tests.support.agent_container import RUN, a_launch
from tests.support.site import IMAGES, SWIFT, WAIT_SECONDS, Site, until
from tests.support.valkey import ValkeyServer, redis, valkey

__all__ = ["redis", "valkey"]
pytestmark = pytest.mark.redis


def a_config(data_dir: Path, valkey: ValkeyServer, slots: int = 4) -> WorkerConfig:
    return WorkerConfig(
        data_dir=data_dir,
        installation="test",
        redis_url=valkey.url,
        serve_url="http://serve",
        token=SecretStr("t"),
        images=IMAGES,
        slots=slots,
        pace=SWIFT,
    )


async def push(valkey: ValkeyServer, run: RunKey, job_id: str | None = None) -> None:
    pool = await create_pool(
        RedisSettings.from_dsn(valkey.url),
        job_serializer=keys.serialize,
        job_deserializer=keys.deserialize,
    )
    queue = keys.run_queue("default")
    await pool.enqueue_job(
        keys.LAUNCH, run.task, run.fence, _job_id=job_id or f"run:{run}", _queue_name=queue
    )
    await pool.aclose(close_connection_pool=True)


@pytest.fixture
async def site(tmp_path: Path, redis: Redis) -> Site:
    return Site(root=tmp_path, redis=redis)


@asynccontextmanager
async def at_work(
    site: Site, valkey: ValkeyServer, slots: int = 4, mirrors: Mirrors | None = None
) -> AsyncIterator[Shift]:
    """A worker, for as long as this lasts."""
    station = site.station(mirrors=mirrors) if mirrors else site.station()
    shift = Shift(a_config(site.root, valkey, slots), station)
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        tasks = [group.create_task(shift.run()), group.create_task(site.apply())]
        try:
            yield shift
        finally:
            for task in tasks:
                task.cancel()


def ended(site: Site, run: RunKey = RUN) -> bool:
    return any(r.run == run and isinstance(r.event, Finished) for r in site.records)


async def test_a_launch_from_the_queue_becomes_a_run(site: Site, valkey: ValkeyServer) -> None:
    launch = await site.launch()
    async with at_work(site, valkey):
        await push(valkey, launch.run)
        await until(lambda: ended(site))
    assert site.finished().changed


async def test_a_launch_delivered_twice_starts_no_second_run(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    async with at_work(site, valkey):
        await push(valkey, RUN, "first")
        await push(valkey, RUN, "second")
        await until(lambda: ended(site))
        await push(valkey, RUN, "third")
        await until_queue_is_empty(site.redis)
    assert site.container.prompts == ["fix it"]


async def until_queue_is_empty(redis: Redis) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await redis.zcard(keys.run_queue("default")):  # noqa: ASYNC110 - Redis sets no event
            await asyncio.sleep(0.01)


async def test_a_launch_that_another_host_has_is_left_to_it(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    await site.station("h2").leases.claim(RUN)
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until_queue_is_empty(site.redis)
    assert site.backend.sent == []


async def test_a_launch_of_an_old_fence_starts_nothing(site: Site, valkey: ValkeyServer) -> None:
    await site.launch()
    await site.tell(RUN.task, fence=2)
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until_queue_is_empty(site.redis)
    assert site.backend.sent == []


async def test_a_launch_that_redis_does_not_know_waits(site: Site, valkey: ValkeyServer) -> None:
    await site.launch()
    await site.redis.delete(keys.task(RUN.task))
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await site.tell(RUN.task, fence=1, state="live")
        await until(lambda: ended(site))


async def test_the_next_worker_adopts_what_the_last_one_left(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: site.lines(RUN) > 8)
    assert not ended(site)
    assert site.lines(RUN) > 8
    async with at_work(site, valkey):
        answer = {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}}
        site.backend.emit(RUN, "agent", {"kind": "agent", "msg": answer})
        await until(lambda: ended(site))
    assert site.finished().changed


async def test_what_is_not_ours_any_more_is_removed_at_the_start(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: site.lines(RUN) > 8)
    await site.tell(RUN.task, fence=2)
    async with at_work(site, valkey):
        await until(lambda: site.lines(RUN) == 0)
    assert not ended(site)


async def test_a_full_host_takes_no_more(site: Site, valkey: ValkeyServer) -> None:
    other = a_launch(run=RunKey(task="02jz", fence=1), agent="mender", branch="errand/02jz-x")
    await site.launch()
    await site.launch(other)
    site.container.hangs = {"session/prompt"}
    async with at_work(site, valkey, slots=1):
        await push(valkey, RUN)
        await until(lambda: site.lines(RUN) > 8)
        await push(valkey, other.run)
        answer = {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}}
        assert site.lines(other.run) == 0
        site.container.hangs = set()
        site.backend.emit(RUN, "agent", {"kind": "agent", "msg": answer})
        await until(lambda: ended(site, other.run))
    starts = [r for r in site.records if r.event.kind == "started"]
    assert [r.run for r in starts] == [RUN, other.run]


async def test_a_host_that_drains_ends_what_it_has_and_takes_nothing(
    site: Site, valkey: ValkeyServer
) -> None:
    other = a_launch(run=RunKey(task="02jz", fence=1), agent="mender", branch="errand/02jz-x")
    await site.launch()
    await site.launch(other)
    site.container.hangs = {"session/prompt"}
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: site.lines(RUN) > 8)
    await push(valkey, other.run)
    draining = Shift(replace(a_config(site.root, valkey), drain=True), site.station())
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        applying = group.create_task(site.apply())
        working = group.create_task(draining.run())
        await until_announced(site.redis)
        said = json.loads(await site.redis.get(keys.host("h1")))
        assert (said["free"], said["draining"]) == (0, True)
        answer = {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}}
        site.backend.emit(RUN, "agent", {"kind": "agent", "msg": answer})
        await working
        applying.cancel()
    assert site.finished().changed
    assert site.lines(RUN) == 0
    assert await site.redis.zcard(keys.run_queue("default")) == 1


async def test_a_drain_that_is_ended_leaves_its_runs_at_work(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: site.lines(RUN) > 8)
    draining = Shift(replace(a_config(site.root, valkey), drain=True), site.station())
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        working = group.create_task(draining.run())
        await until_announced(site.redis)
        working.cancel()
    assert site.lines(RUN) > 8
    assert not ended(site)


async def test_that_a_host_has_less_room_or_more_is_told_at_once(
    site: Site, valkey: ValkeyServer
) -> None:
    """Not only with the next beat, which never comes here."""
    await site.launch()
    site.container.hangs = {"session/prompt"}
    shift = Shift(a_config(site.root, valkey), site.station(pace=replace(SWIFT, beat=WAIT_SECONDS)))
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        working = group.create_task(shift.run())
        await until_free(site.redis, 4)
        await push(valkey, RUN)
        await until_free(site.redis, 3)
        await site.tell(RUN.task, fence=2)
        await until_free(site.redis, 4)
        working.cancel()


async def test_a_host_without_runs_is_drained_at_once(site: Site, valkey: ValkeyServer) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        await Shift(replace(a_config(site.root, valkey), drain=True), site.station()).run()


async def test_what_happens_on_a_host_is_counted(site: Site, valkey: ValkeyServer) -> None:
    await site.launch()
    metrics = WorkMetrics()
    shift = Shift(a_config(site.root, valkey), site.station(meter=metrics))
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        tasks = [group.create_task(shift.run()), group.create_task(site.apply())]
        await push(valkey, RUN)
        await until(lambda: ended(site))
        for task in tasks:
            task.cancel()
    sample = metrics.registry.get_sample_value
    assert sample("errand_work_launches_total", {"standing": "live"}) == 1
    assert sample("errand_work_runs_total", {"outcome": "done"}) == 1
    assert sample("errand_work_sandbox_start_seconds_count") == 1
    assert sample("errand_work_slots") == 4


async def test_a_lease_that_redis_does_not_renew_is_counted(
    site: Site, valkey: ValkeyServer
) -> None:
    metrics = WorkMetrics()
    await site.launch()
    await valkey.kill()
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        claiming = group.create_task(Leases(site.redis, host="h1", meter=metrics).claim(RUN))
        sample = metrics.registry.get_sample_value
        await until(lambda: bool(sample("errand_work_renewals_failed_total")))
        await valkey.start()
        assert (await claiming).standing == "live"


class QuickMirrors(Mirrors):
    """Without git."""

    @override
    async def refresh(self, launch: Launch, access: GitAccess) -> Checkout:
        mirror = self.path(launch.forge, launch.repo)
        base = "a" * 40
        return Checkout(mirror=mirror, base_commit=base, start_commit=base, settings=None)


MANY = 120


@pytest.mark.timeout(120)
async def test_with_120_runs_at_work_the_next_one_starts_on_the_idle_host_at_once(
    site: Site, valkey: ValkeyServer
) -> None:
    site.container.hangs = {"session/prompt"}
    launches = [
        a_launch(run=RunKey(task=f"02jz{n:03}", fence=1), branch=f"errand/02jz{n:03}-x")
        for n in range(MANY + 1)
    ]
    for launch in launches:
        await site.launch(launch)
    *many, last = [launch.run for launch in launches]
    mirrors = QuickMirrors(site.root / "mirrors")
    full = Shift(a_config(site.root, valkey, slots=MANY), site.station(mirrors=mirrors))
    idle = Shift(a_config(site.root, valkey, slots=1), site.station("h2", mirrors=mirrors))
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        tasks = [group.create_task(full.run()), group.create_task(site.apply())]
        for run in many:
            await push(valkey, run)
        while any(site.lines(run) < 8 for run in many):  # noqa: ASYNC110 - lines set no event
            await asyncio.sleep(0.05)
        tasks.append(group.create_task(idle.run()))
        await until_announced(site.redis, "h2")
        await push(valkey, last)
        async with asyncio.timeout(5):
            while site.lines(last) < 8:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        owner = await site.redis.hget(keys.task(last.task), "owner:1")  # type: ignore[misc]
        assert owner == b"h2"
        for task in tasks:
            task.cancel()


async def test_jobs_that_others_hold_at_the_head_of_the_queue_hold_up_nobody(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    for n in range(MANY):
        run = RunKey(task=f"02jz{n:03}", fence=1)
        await push(valkey, run)
        await site.redis.set(f"arq:in-progress:run:{run}", "1")
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: ended(site))


class Evil:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


async def test_a_payload_that_is_none_of_ours_is_not_run_and_holds_up_nothing(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    for name, payload in (
        ("evil", pickle.dumps(Evil(site.root / "made"))),
        ("noise", b"\x00\xff"),
        ("other", keys.serialize({"f": keys.LAUNCH, "a": ["x"], "k": {}, "t": 1, "et": 1})),
    ):
        await site.redis.set(f"arq:job:{name}", payload)
        await site.redis.zadd(keys.run_queue("default"), {name: 1})
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: ended(site))
        await until_queue_is_empty(site.redis)
    assert not (site.root / "made").exists()


async def test_a_disk_that_cannot_be_read_for_a_while_ends_no_worker(
    site: Site, valkey: ValkeyServer
) -> None:
    launch = await site.launch()
    runs = site.root / "h1" / "runs"
    with capture_logs() as logs:
        async with at_work(site, valkey):
            await push(valkey, launch.run)
            await until(lambda: ended(site))
            runs.rename(runs.with_name("aside"))
            runs.write_text("no directory")
            await until(lambda: [line["event"] for line in logs].count("sweep_failed") > 1)


async def test_a_command_reaches_its_run(site: Site, valkey: ValkeyServer) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with at_work(site, valkey):
        await push(valkey, RUN)
        await until(lambda: site.lines(RUN) > 8)
        stop = Command(id="c1", run=RUN, kind="stop")
        await site.redis.xadd(keys.commands("h1"), {"c": stop.model_dump_json()})
        await until(lambda: ended(site))
    assert site.finished().outcome == "stopped"


async def test_a_worker_outlives_its_redis(site: Site, valkey: ValkeyServer) -> None:
    await site.launch()
    shift = Shift(a_config(site.root, valkey), site.station())
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        working = group.create_task(shift.run())
        await until_announced(site.redis)
        await valkey.kill()
        await valkey.start()
        await push(valkey, RUN)
        applying = group.create_task(site.apply())
        await until(lambda: ended(site))
        working.cancel()
        applying.cancel()


async def until_announced(redis: Redis, host: str = "h1") -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await redis.exists(keys.host(host)):  # noqa: ASYNC110 - Redis sets no event
            await asyncio.sleep(0.01)


async def until_free(redis: Redis, slots: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while json.loads(await redis.get(keys.host("h1")) or "{}").get("free") != slots:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


class BrokenMirrors(Mirrors):
    @override
    async def refresh(self, launch: Launch, access: GitAccess) -> Checkout:
        raise ZeroDivisionError


async def test_a_failure_in_one_run_does_not_end_the_worker(
    site: Site, valkey: ValkeyServer
) -> None:
    await site.launch()
    async with at_work(site, valkey, mirrors=BrokenMirrors(site.root)):
        await push(valkey, RUN)
        await until(lambda: ended(site))
        await push(valkey, RUN, "again")
        await until_queue_is_empty(site.redis)
    assert site.finished().infrastructure


async def test_a_data_directory_has_one_worker(tmp_path: Path, valkey: ValkeyServer) -> None:
    with sole_worker(tmp_path), pytest.raises(DataDirTakenError):
        await Worker(a_config(tmp_path, valkey), MemoryBackend()).run()


async def test_a_worker_ends_when_it_is_cancelled(tmp_path: Path, valkey: ValkeyServer) -> None:
    worker = Worker(a_config(tmp_path, valkey), MemoryBackend())
    name = host_name(tmp_path)
    async with (
        asyncio.timeout(WAIT_SECONDS),
        asyncio.TaskGroup() as group,
        valkey.client() as redis,
    ):
        working = group.create_task(worker.run())
        async with asyncio.timeout(WAIT_SECONDS):
            while not await redis.exists(keys.host(name)):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert not await redis.exists(keys.host(name))
    assert host_name(tmp_path) == name
