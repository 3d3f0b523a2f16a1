"""A long line: who stands in it, and whose turn it is."""

import pytest
from redis.asyncio import Redis
from sqlalchemy import text as sql

from bot.bus import Bus
from bot.line import LOOKED_AT, Room, line
from bot.said import show_card
from bot.states import TaskState
from bot.store import outbox, tasks
from bot.store.rows import TaskRow
from runner import keys
from runner.lease import Leases
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


CROWDS = {
    "turns": ([("a", "dana", 0)] * 4 + [("b", "lee", 0)] * 2, {}),
    "urgent": ([("a", "dana", 0), ("a", "lee", 0), ("b", "kim", 1), ("a", "lee", 1)], {}),
    "persons": ([("a", "dana", 0)] * 5 + [("a", "lee", 0), ("b", "lee", 0)], {"per_person": 2}),
    "crowd": ([("a", "kim", 0)] * 4 + [("a", "lee", 0)] + [("b", p, 0) for p in "wxyz"],
              {"per_person": 2}),
    "repos": ([("a", p, 0) for p in "stuvw"] + [("b", "dana", 0)], {"per_repo": 2}),
    "both": ([("a", "dana", 0), ("b", "dana", 0), ("a", "lee", 0), ("a", "kim", 2)],
             {"per_person": 1, "per_repo": 2}),
}  # fmt: skip


async def crowded(office: Office, name: str) -> tuple[Room, list[TaskRow]]:
    """One at work, and who waits, under these limits."""
    crowd, limits = CROWDS[name]
    room = Room(
        tasks_per_person=limits.get("per_person", 9), tasks_per_repo=limits.get("per_repo", 9)
    )
    at_work = a_task(90, repo="a", requester="dana", state=TaskState.RUNNING)
    rows = [
        a_task(n, repo=repo, requester=person, priority=priority, created_at=at(n))
        for n, (repo, person, priority) in enumerate(crowd)
    ]
    async with office.store.begin() as tx:
        for row in [at_work, *rows]:
            await tasks.insert(tx, row)
    return room, rows


@pytest.mark.parametrize("name", CROWDS)
async def test_where_there_is_room_for_many_the_line_is_their_order(
    office: Office, bus: Bus, redis: Redis, name: str
) -> None:
    room, _ = await crowded(office, name)
    async with office.store.read() as conn:
        waiting = await tasks.standing_in_line(conn, limit=100)
        live = await tasks.standing_at_work(conn)
    office.policy = limited(tasks=100, **room.model_dump())
    await Yard.of(office, bus, redis).dispatcher.dispatch()
    async with office.store.read() as conn:
        launches = sql("SELECT task FROM audit WHERE action = 'launch' ORDER BY id")
        begun = list((await conn.execute(launches)).scalars())
    assert begun
    assert begun == [one.id for one in line(waiting, live, room)][: len(begun)]


@pytest.mark.parametrize("name", CROWDS)
async def test_the_line_is_as_dispatch_takes_it(
    office: Office, bus: Bus, redis: Redis, name: str
) -> None:
    """One place more each time: whoever is begun is the next in the line that was said."""
    room, rows = await crowded(office, name)
    for places in range(2, len(rows) + 2):
        async with office.store.read() as conn:
            waiting = await tasks.standing_in_line(conn, limit=100)
            live = await tasks.standing_at_work(conn)
        office.policy = limited(tasks=places, **room.model_dump())
        await Yard.of(office, bus, redis).dispatcher.dispatch()
        begun = {one.id for one in await at_work_now(office)} - {one.id for one in live}
        if not waiting or len(live) < places - 1:
            continue
        first = line(waiting, live, room)[0]
        assert begun == (set() if full(live, room, first) else {first.id})


async def at_work_now(office: Office) -> list[tasks.Standing]:
    async with office.store.read() as conn:
        return await tasks.standing_at_work(conn)


def full(live: list[tasks.Standing], room: Room, waits: tasks.Standing) -> bool:
    persons = sum(one.requester == waits.requester for one in live)
    repos = sum(one.repo == waits.repo for one in live)
    return persons >= room.tasks_per_person or repos >= room.tasks_per_repo


async def test_however_far_back_a_task_stands_it_is_told_its_place(office: Office) -> None:
    queue = [
        a_task(n, requester=f"fake:{n % 50}", repo=f"acme/{n % 7}", created_at=at(n))
        for n in range(LOOKED_AT + 10)
    ]
    async with office.store.begin() as tx:
        for task in queue:
            await tasks.insert(tx, task)
        for task in (queue[8], queue[70], queue[-1]):
            await show_card(tx, task, now=office.clock.now())
    vigil = office.vigil
    await vigil.tell_the_line()
    last, far, near = queue[-1], queue[70], queue[8]
    assert await place(office, near) == "waits in line, 8 before it"
    assert await place(office, far) == "waits in line, about 70 before it"
    assert await place(office, last) == f"waits in line, more than {LOOKED_AT} before it"
    async with office.store.begin() as tx:
        for task in queue[:6]:
            now = office.clock.now()
            await tasks.move(
                tx, task.id, to=TaskState.STOPPED, old=[TaskState.QUEUED], changed_at=now
            )
    await vigil.tell_the_line()
    assert await place(office, near) == "waits in line, 2 before it"
    assert await place(office, far) == "waits in line, about 60 before it"
    assert await place(office, last) == f"waits in line, more than {LOOKED_AT} before it"


async def place(office: Office, task: TaskRow) -> str:
    async with office.store.read() as conn:
        row = await outbox.get(conn, task.id, "card", str(task.round))
    assert row is not None
    return str(row.payload["doing"])


async def test_no_more_is_begun_than_hosts_have_room_for_and_one_ahead(
    office: Office, bus: Bus, redis: Redis
) -> None:
    yard = Yard.of(office, bus, redis)
    await yard.host.announce(free=2)
    waiting = [a_task(n, created_at=at(n), requester=f"fake:{n}") for n in range(5)]
    begun = await started(office, bus, redis, waiting)
    assert {row.id for row in begun} == {row.id for row in waiting[:3]}
    assert await yard.dispatcher.dispatch() == 0

    await yard.host.take()
    await yard.host.announce(free=0)
    urgent = a_task(9, created_at=at(9), requester="fake:urgent", priority=1)
    begun_then = await started(office, bus, redis, [urgent])
    assert {row.id for row in begun_then} - {row.id for row in begun} == {urgent.id}


async def test_nothing_is_begun_without_a_host(office: Office, bus: Bus, redis: Redis) -> None:
    yard = Yard.of(office, bus, redis)
    await redis.delete(keys.host("h1"))
    await office.hear("acme/web fix it")
    assert await yard.dispatcher.dispatch() == 0
    assert (await office.task()).state is TaskState.QUEUED
    await Leases(redis, host="h2").announce(slots=1, free=0, version="1", draining=True)
    assert await yard.dispatcher.dispatch() == 0
    await yard.host.announce(free=1)
    assert await yard.dispatcher.dispatch() == 1
