"""Tasks that wait for days, for their turn or for a host, with arq's own keys and worker."""

import asyncio

import pytest
from redis.asyncio import Redis

from bot.bus import HASH_SECONDS, Bus
from bot.states import TaskState
from policies.model import Limits
from runner import keys
from runner.launches import Launches
from runner.lease import Standing
from runner.protocol import RunKey
from tests.contract.flow.office import Office
from tests.contract.flow.yard import Yard, done
from tests.support.builders import POLICY
from tests.support.site import until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.redis
HOUR = 3600
QUEUE = keys.run_queue("default")


async def later(yard: Yard, seconds: int) -> None:
    """So much time passes, for Redis as well: what would have expired is gone, the rest is so much older."""
    yard.office.clock.forward(seconds)
    for key in await yard.redis.keys():
        left = await yard.redis.pttl(key)
        if left > 0:
            await yard.redis.pexpire(key, left - seconds * 1000)  # gone, if that is in the past
    for job, due in await yard.redis.zrange(QUEUE, 0, -1, withscores=True):
        await yard.redis.zadd(QUEUE, {job: due - seconds * 1000})


async def through_arq(yard: Yard, url: str) -> RunKey:
    """A host comes up, and arq's worker gives it the one launch that there is."""
    begun: list[RunKey] = []

    async def begin(run: RunKey) -> None:
        assert await yard.host.claim(run) is Standing.LIVE
        begun.append(run)

    launches = Launches(redis_url=url, host="h1", pool="default", begin=begin)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(launches.run())
        await until(lambda: bool(begun), "it begins")
        async with asyncio.timeout(10):
            while await yard.redis.zcard(QUEUE):  # noqa: ASYNC110 - Redis sets no event
                await asyncio.sleep(0.01)
        taking.cancel()
    [run] = begun
    return run


async def test_a_launch_that_waited_for_a_host_for_days_is_run(
    yard: Yard, valkey: ValkeyServer
) -> None:
    launched = await yard.starting()
    for _ in range(6 * 24):
        await later(yard, HOUR)
        await yard.dispatcher.reconcile()
    assert await through_arq(yard, valkey.url) == launched
    await yard.tell(launched, yard.host.started(), done(changed=False))
    task = await yard.office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.SUCCEEDED, 1, 1)


async def test_a_launch_that_arq_has_forgotten_is_launched_anew(
    yard: Yard, valkey: ValkeyServer
) -> None:
    launched = await yard.starting()
    await later(yard, HASH_SECONDS + HOUR)
    assert not await yard.bus.has_launch(launched)
    await yard.wait_out_the_grace()
    await yard.dispatcher.dispatch()
    run = await through_arq(yard, valkey.url)
    await yard.tell(run, yard.host.started(), done(changed=False))
    task = await yard.office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.SUCCEEDED, 2, 1)


async def test_a_task_that_waited_for_its_turn_for_more_than_a_day_is_run(
    office: Office, bus: Bus, redis: Redis, valkey: ValkeyServer
) -> None:
    office.policy = POLICY.model_copy(update={"limits": Limits(tasks=1)})
    yard = Yard.of(office, bus, redis)
    first = await yard.running()
    await office.hear("acme/web another", thread="9.0")
    for _ in range(30):
        await later(yard, HOUR)
        assert await yard.host.claim(first) is Standing.LIVE
        await yard.dispatcher.reconcile()
        assert await yard.dispatcher.dispatch() == 0
    await yard.tell(first, done(changed=False))
    await yard.dispatcher.dispatch()
    run = await through_arq(yard, valkey.url)
    await yard.tell(run, yard.host.started(), done(changed=False))
    assert [task.state for task in await office.tasks()] == [TaskState.SUCCEEDED] * 2
