"""Tasks: one per origin, every move a compare-and-set."""

import asyncio
from itertools import product

import pytest

from bot.states import LIVE, MOVES, TERMINAL, IllegalMoveError, TaskState
from bot.store import tasks
from bot.store.engine import Store
from bot.store.tasks import FollowUp
from tests.support.store import HERE, a_task, at

S = TaskState
LEGAL = [(old, to) for old in S for to in S if to in MOVES[old]]


async def test_a_task_is_stored_whole(store: Store) -> None:
    row = a_task(title="Ärger mit 👀", ended_at=at(9), state=S.FAILED, fence=3)
    async with store.begin() as tx:
        assert await tasks.insert(tx, row)
    async with store.read() as conn:
        assert await tasks.get(conn, row.id) == row
        assert await tasks.get(conn, "another") is None


async def test_an_origin_leads_to_one_task(store: Store) -> None:
    async with store.begin() as tx:
        assert await tasks.insert(tx, a_task(1))
        assert not await tasks.insert(tx, a_task(2, origin=a_task(1).origin))
        assert await tasks.get(tx, a_task(2).id) is None


async def test_a_conversation_leads_to_its_newest_task(store: Store) -> None:
    other = HERE.model_copy(update={"thread": "2.2"})
    async with store.begin() as tx:
        for row in (a_task(1), a_task(3), a_task(2), a_task(4, conversation=other)):
            await tasks.insert(tx, row)
        newest = await tasks.for_conversation(tx, HERE)
        assert newest is not None
        assert newest.id == a_task(3).id
        nobody = HERE.model_copy(update={"team": ""})
        assert await tasks.for_conversation(tx, nobody) is None


async def test_lists_have_their_order_and_limit(store: Store) -> None:
    async with store.begin() as tx:
        for n, state in enumerate([S.QUEUED, S.RUNNING, S.QUEUED, S.FAILED, S.QUEUED]):
            await tasks.insert(tx, a_task(n, state=state, changed_at=at(100 - n)))

    def ids(*numbers: int) -> list[str]:
        return [a_task(n).id for n in numbers]

    async with store.read() as conn:
        assert [t.id for t in await tasks.listing(conn)] == ids(4, 3, 2, 1, 0)
        assert [t.id for t in await tasks.listing(conn, limit=2)] == ids(4, 3)
        assert [t.id for t in await tasks.listing(conn, states=TERMINAL)] == ids(3)
        assert [t.id for t in await tasks.queued(conn, limit=2)] == ids(0, 2)
        live = await tasks.in_states(conn, {S.QUEUED, S.RUNNING}, limit=3)
        assert [t.id for t in live] == ids(4, 2, 1)
        assert await tasks.in_states(conn, ()) == []


@pytest.mark.parametrize(("old", "to"), LEGAL)
async def test_every_move_of_the_state_machine_is_possible(
    store: Store, old: TaskState, to: TaskState
) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task(state=old))
        assert await tasks.move(tx, a_task().id, to=to, old=[old], changed_at=at(50))
        row = await tasks.get(tx, a_task().id)
    assert row is not None
    assert (row.state, row.changed_at) == (to, at(50))
    assert row.ended_at == (at(50) if to in TERMINAL else None)


async def test_a_move_that_the_state_machine_lacks_is_a_bug(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        for old, to in set(product(S, S)) - set(LEGAL):
            with pytest.raises(IllegalMoveError):
                await tasks.move(tx, a_task().id, to=to, old=[S.QUEUED, old], changed_at=at(1))
        row = await tasks.get(tx, a_task().id)
        assert row == a_task()


async def test_a_move_changes_what_it_is_told_and_nothing_else(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task(1))
        await tasks.insert(tx, a_task(2))
        assert await tasks.move(
            tx,
            a_task(1).id,
            to=S.STARTING,
            old=[S.QUEUED],
            fence=0,
            new_fence=1,
            attempts=1,
            changed_at=at(50),
        )
        expected = {"state": S.STARTING, "fence": 1, "attempts": 1, "changed_at": at(50)}
        assert await tasks.get(tx, a_task(1).id) == a_task(1).model_copy(update=expected)
        assert await tasks.get(tx, a_task(2).id) == a_task(2)


async def test_a_move_from_another_state_or_fence_changes_nothing(store: Store) -> None:
    row = a_task(state=S.RUNNING, fence=4)
    async with store.begin() as tx:
        await tasks.insert(tx, row)
        assert not await tasks.move(tx, row.id, to=S.STARTING, old=[S.QUEUED], changed_at=at(9))
        for fence in (3, 5):
            assert not await tasks.move(
                tx, row.id, to=S.FAILED, old=[S.RUNNING], fence=fence, changed_at=at(9)
            )
        assert not await tasks.move(tx, row.id, to=S.FAILED, old=[], changed_at=at(9))
        assert not await tasks.move(tx, "none", to=S.FAILED, old=[S.RUNNING], changed_at=at(9))
        assert await tasks.get(tx, row.id) == row


async def test_of_many_who_move_the_same_task_exactly_one_wins(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(2)]

    async def launch(store: Store, task: str) -> bool:
        async with store.begin() as tx:
            return await tasks.move(
                tx, task, to=S.STARTING, old=[S.QUEUED], fence=0, new_fence=1, changed_at=at(9)
            )

    for n in range(5):
        async with stores[0].begin() as tx:
            await tasks.insert(tx, a_task(n))
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(launch(stores[k % 2], a_task(n).id)) for k in range(8)]
        assert sum(task.result() for task in tries) == 1
    for store in stores:
        await store.close()


async def test_update_leaves_the_state_alone(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        assert await tasks.update(tx, a_task().id, pull_url="https://code.example.com/1", fence=7)
        expected = {"pull_url": "https://code.example.com/1", "fence": 7}
        assert await tasks.get(tx, a_task().id) == a_task().model_copy(update=expected)
        assert not await tasks.update(tx, "another", reason="why")


async def test_an_ended_task_begins_another_round_once(store: Store) -> None:
    ended = a_task(
        state=S.FAILED, fence=2, attempts=2, reason="tests fail", ended_at=at(9), pull_url="u"
    )
    values: FollowUp = {
        "message_id": "2.0",
        "prompt": "again",
        "grant": {"n": 2},
        "policy_hash": "q",
        "requester": "slack:U0LEE",
    }
    async with store.begin() as tx:
        await tasks.insert(tx, ended)
        assert await tasks.reopen(tx, ended.id, now=at(20), **values)
        fresh = {
            "state": S.QUEUED,
            "round": 2,
            "attempts": 0,
            "reason": "",
            "ended_at": None,
            "changed_at": at(20),
            **values,
        }
        assert await tasks.get(tx, ended.id) == ended.model_copy(update=fresh)
        assert not await tasks.reopen(tx, ended.id, now=at(21), **values)


@pytest.mark.parametrize("state", sorted(LIVE))
async def test_a_live_task_is_not_reopened(store: Store, state: TaskState) -> None:
    row = a_task(state=state)
    async with store.begin() as tx:
        await tasks.insert(tx, row)
        assert not await tasks.reopen(
            tx, row.id, now=at(20), message_id="2.0", prompt="p", grant={}, policy_hash="q"
        )
        assert await tasks.get(tx, row.id) == row


async def test_only_live_tasks_count_against_a_limit(store: Store) -> None:
    async with store.begin() as tx:
        for n, state in enumerate(S):
            await tasks.insert(tx, a_task(n, state=state))
        await tasks.insert(tx, a_task(50, requester="slack:U0LEE"))
        await tasks.insert(tx, a_task(51, requester="slack:U0LEE", repo="acme/api"))
        assert await tasks.count_live(tx) == len(LIVE) + 2
        assert await tasks.count_live(tx, requester="slack:U0LEE") == 2
        assert await tasks.count_live(tx, repo="acme/web") == len(LIVE) + 1
        assert await tasks.count_live(tx, requester="slack:U0LEE", repo="acme/web") == 1
        assert await tasks.count_live(tx, requester="slack:U0NONE") == 0


async def test_counts_name_every_state(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task(1))
        await tasks.insert(tx, a_task(2))
        await tasks.insert(tx, a_task(3, state=S.FAILED))
        expected = dict.fromkeys(S, 0) | {S.QUEUED: 2, S.FAILED: 1}
        assert await tasks.counts(tx) == expected
