"""What tickets brought: completion, followers, waiting, priority, secrets."""

from bot.states import TaskState
from bot.store import followers, inbox, secrets, tasks
from bot.store.engine import Store
from tests.support.store import HERE, NOW, a_task, an_inbound, at

THERE = HERE.model_copy(update={"channel": "linear", "thread": "session-1"})


async def test_a_partial_delivery_is_raw_until_it_is_completed_once(store: Store) -> None:
    partial = an_inbound(partial=True)
    whole = partial.model_copy(update={"partial": False, "title": "Login"})
    async with store.begin() as tx:
        await inbox.insert(tx, partial, now=NOW)
        assert await inbox.new(tx, limit=9) == []
        assert await inbox.backlog(tx) == 1
        [row] = await inbox.raw(tx, limit=9)
        assert row.inbound == partial
        assert await inbox.complete(tx, row.id, whole)
        assert not await inbox.complete(tx, row.id, partial)
        assert await inbox.raw(tx, limit=9) == []
        assert [row.inbound for row in await inbox.new(tx, limit=9)] == [whole]


async def test_a_task_is_found_by_whoever_follows_it(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task(1))
        assert await tasks.for_conversation(tx, THERE) is None
        assert await followers.add(tx, a_task(1).id, THERE, now=NOW)
        assert not await followers.add(tx, a_task(1).id, THERE, now=at(9))
        assert await tasks.for_conversation(tx, THERE) == a_task(1)
        assert await tasks.for_conversation(tx, HERE) == a_task(1)
        assert await followers.of_task(tx, a_task(1).id) == [THERE]
        assert await followers.of_task(tx, "another") == []


async def test_the_urgent_start_first_then_the_oldest_and_none_that_waits(store: Store) -> None:
    priorities = {1: 0, 2: 4, 3: 1, 4: 3, 5: 2, 6: 0}
    async with store.begin() as tx:
        for n, priority in priorities.items():
            await tasks.insert(tx, a_task(n, priority=priority))
        await tasks.insert(tx, a_task(7, priority=1, waits_for=("ENG-1",)))
        await tasks.insert(tx, a_task(8, waits_for=("ENG-1",), state=TaskState.STOPPED))
        ready = await tasks.queued(tx, limit=9)
        assert [t.id for t in ready] == [a_task(n).id for n in (3, 5, 1, 4, 6, 2)]
        assert [t.id for t in await tasks.waiting(tx, limit=9)] == [a_task(7).id]
        await tasks.update(tx, a_task(7).id, waits_for=())
        assert await tasks.waiting(tx, limit=9) == []


async def test_secrets_change_only_as_they_are_known(store: Store) -> None:
    async with store.begin() as tx:
        assert await secrets.get(tx, "a") is None
        assert await secrets.create(tx, "a", "1", now=NOW)
        assert not await secrets.create(tx, "a", "2", now=NOW)
        assert not await secrets.replace(tx, "a", old="2", new="3", now=NOW)
        assert await secrets.replace(tx, "a", old="1", new="3", now=NOW)
        await secrets.put(tx, "a", "4", now=NOW)
        await secrets.put(tx, "b", "5", now=NOW)
        await secrets.put(tx, "x%", "6", now=NOW)
        assert await secrets.names(tx, prefix="x%") == ["x%"]
        assert await secrets.names(tx, prefix="") == ["a", "b", "x%"]
        assert not await secrets.remove(tx, "a", old="3")
        assert await secrets.remove(tx, "a", old="4")
        assert await secrets.get(tx, "a") is None


async def test_the_first_of_each_person_in_each_repository_may_start(store: Store) -> None:
    async with store.begin() as tx:
        for n, who in enumerate(["dana", "dana", "dana", "lee"]):
            await tasks.insert(tx, a_task(n, requester=who))
        await tasks.insert(tx, a_task(4, requester="dana", repo="acme/api"))
        found = await tasks.candidates(tx, each=2, per_repo=5)
    assert [t.id for t in found] == [a_task(n).id for n in (0, 1, 3, 4)]


async def test_no_more_of_a_repository_is_read_than_it_may_have_at_work(store: Store) -> None:
    async with store.begin() as tx:
        for n in range(6):
            await tasks.insert(tx, a_task(n, requester=f"slack:U{n}", priority=1 if n == 5 else 0))
        found = await tasks.candidates(tx, each=2, per_repo=3)
    assert [t.id for t in found] == [a_task(n).id for n in (5, 0, 1)]


async def test_an_urgent_task_is_not_behind_others_of_its_person(store: Store) -> None:
    async with store.begin() as tx:
        for n in range(3):
            await tasks.insert(tx, a_task(n, priority=1 if n == 2 else 0))
        found = await tasks.candidates(tx, each=1, per_repo=3)
    assert [t.id for t in found] == [a_task(2).id]


async def test_what_stands_behind_the_full_is_not_read(store: Store) -> None:
    async with store.begin() as tx:
        for n, (who, repo) in enumerate(
            [("dana", "acme/web"), ("dana", "acme/api"), ("lee", "acme/web"), ("lee", "acme/api")]
        ):
            await tasks.insert(tx, a_task(n, requester=who, repo=repo))
        found = await tasks.candidates(
            tx, each=2, per_repo=2, full_repos=["acme/web"], full_people=["dana"]
        )
    assert [t.id for t in found] == [a_task(3).id]
