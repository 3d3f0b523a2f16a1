"""The inbox: one utterance is one row, however often and however it is delivered."""

import asyncio
from typing import Literal

import pytest

from bot.store import inbox
from bot.store.engine import Store
from integrations.channel import Inbound
from tests.support.store import HERE, NOW, an_inbound, at


async def test_a_delivery_is_stored_whole(store: Store) -> None:
    said = an_inbound(text="fix  the 👀 login\ntest", link="https://chat.example.com/p1")
    async with store.begin() as tx:
        assert await inbox.insert(tx, said, now=at(3))
    async with store.read() as conn:
        (row,) = await inbox.new(conn, limit=10)
    assert (row.inbound, row.state, row.tries, row.received_at) == (said, "new", 0, at(3))


@pytest.mark.parametrize(
    "again",
    [
        an_inbound(1),
        an_inbound(1, semantic_key="another"),
        an_inbound(2, semantic_key=an_inbound(1).semantic_key),
    ],
    ids=["same delivery", "same event id", "same utterance"],
)
async def test_redelivery_stores_nothing_and_raises_nothing(store: Store, again: Inbound) -> None:
    async with store.begin() as tx:
        assert await inbox.insert(tx, an_inbound(1), now=NOW)
    async with store.begin() as tx:
        assert not await inbox.insert(tx, again, now=at(1))
        assert await inbox.backlog(tx) == 1
        assert await inbox.insert(tx, an_inbound(9), now=at(1))


async def test_keys_of_one_channel_do_not_count_in_another(store: Store) -> None:
    elsewhere = HERE.model_copy(update={"channel": "console"})
    async with store.begin() as tx:
        assert await inbox.insert(tx, an_inbound(1), now=NOW)
        assert await inbox.insert(tx, an_inbound(1, conversation=elsewhere), now=NOW)


async def test_many_say_for_each_whether_it_is_new(store: Store) -> None:
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(2), now=NOW)
        batch = [
            an_inbound(1),
            an_inbound(2),
            an_inbound(1),
            an_inbound(3, semantic_key=an_inbound(1).semantic_key),
            an_inbound(4),
        ]
        assert await inbox.insert_many(tx, batch, now=NOW) == [True, False, False, False, True]
        assert await inbox.insert_many(tx, batch, now=NOW) == [False] * 5
        assert await inbox.insert_many(tx, [], now=NOW) == []
        assert await inbox.backlog(tx) == 3


async def test_one_of_many_concurrent_redeliveries_is_new(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(2)]

    async def deliver(store: Store) -> bool:
        async with store.begin() as tx:
            return await inbox.insert(tx, an_inbound(), now=NOW)

    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(deliver(stores[n % 2])) for n in range(40)]
    assert sum(answer.result() for answer in answers) == 1
    for store in stores:
        await store.close()


async def test_new_ones_come_oldest_first_and_within_the_limit(store: Store) -> None:
    async with store.begin() as tx:
        for n in range(5):
            await inbox.insert(tx, an_inbound(n), now=at(-n))
    async with store.read() as conn:
        rows = await inbox.new(conn, limit=3)
    assert [row.inbound.event_id for row in rows] == ["Ev0", "Ev1", "Ev2"]


@pytest.mark.parametrize("state", ["done", "ignored", "dead"])
async def test_a_finished_one_is_new_no_more_but_still_known(
    store: Store, state: Literal["done", "ignored", "dead"]
) -> None:
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(), now=NOW)
        (row,) = await inbox.new(tx, limit=1)
        await inbox.finish(tx, row.id, state=state)
    async with store.begin() as tx:
        assert await inbox.new(tx, limit=1) == []
        assert await inbox.backlog(tx) == 0
        assert not await inbox.insert(tx, an_inbound(), now=NOW)


async def test_a_failure_counts_and_the_row_stays_new(store: Store) -> None:
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(), now=NOW)
        (row,) = await inbox.new(tx, limit=1)
        assert await inbox.fail(tx, row.id, error="no policy") == 1
        assert await inbox.fail(tx, row.id, error="no policy") == 2
        (again,) = await inbox.new(tx, limit=1)
    assert again == row.model_copy(update={"tries": 2})


async def test_a_dead_one_is_again_what_it_was(store: Store) -> None:
    async with store.begin() as tx:
        await inbox.insert(tx, an_inbound(1), now=NOW)
        await inbox.insert(tx, an_inbound(2, partial=True), now=NOW)
        [whole], [partial] = await inbox.new(tx, limit=9), await inbox.raw(tx, limit=9)
        for row in (whole, partial):
            await inbox.finish(tx, row.id, state="dead")
        assert [row.id for row in await inbox.dead(tx, limit=9)] == [partial.id, whole.id]
        assert [row.id for row in await inbox.dead(tx, limit=1)] == [partial.id]
        assert await inbox.revive(tx, whole.id)
        assert await inbox.revive(tx, partial.id)
        assert await inbox.new(tx, limit=9) == [whole]
        assert await inbox.raw(tx, limit=9) == [partial]
