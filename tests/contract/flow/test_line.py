"""A long line: who stands in it, and whose turn it is."""

import pytest
from redis.asyncio import Redis

from bot.bus import Bus
from bot.states import TaskState
from bot.store import tasks
from bot.store.rows import TaskRow
from tests.contract.flow.office import Office
from tests.contract.flow.test_dispatch import limited
from tests.contract.flow.yard import Yard
from tests.support.store import a_task, at

pytestmark = pytest.mark.redis


async def started(office: Office, bus: Bus, redis: Redis, waiting: list[TaskRow]) -> list[TaskRow]:
    async with office.store.begin() as tx:
        for row in waiting:
            await tasks.insert(tx, row)
    await Yard.of(office, bus, redis).dispatcher.dispatch()
    async with office.store.read() as conn:
        return await tasks.in_states(conn, [TaskState.STARTING])


async def test_a_long_line_of_one_person_holds_back_nobody_else(
    office: Office, bus: Bus, redis: Redis
) -> None:
    office.policy = limited(tasks_per_person=1)
    mine = [a_task(n, requester="fake:dana", created_at=at(n)) for n in range(600)]
    late = a_task(601, requester="fake:lee", created_at=at(601))
    begun = await started(office, bus, redis, [*mine, late])
    assert {row.id for row in begun} == {mine[0].id, late.id}


async def test_repositories_take_turns(office: Office, bus: Bus, redis: Redis) -> None:
    office.policy = limited(tasks=2, tasks_per_person=9)
    repos = ["acme/a", "acme/a", "acme/b"]
    waiting = [a_task(n, repo=repo, created_at=at(n)) for n, repo in enumerate(repos)]
    begun = await started(office, bus, redis, waiting)
    assert {row.repo for row in begun} == {"acme/a", "acme/b"}
