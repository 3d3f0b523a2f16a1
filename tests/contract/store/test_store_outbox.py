"""The outbox: each message once, in order within a conversation, one in flight there."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import outbox
from bot.store.engine import Store
from bot.store.errors import StoreRefusedError
from bot.store.outbox import Destination
from bot.store.rows import OutboxRow
from tests.support.store import HERE, NOW, a_message, at

TASK = a_message().task
THERE = HERE.model_copy(update={"thread": "2.2"})


async def _claim(tx: AsyncConnection, *, seconds: float = 0, limit: int = 10) -> list[OutboxRow]:
    return await outbox.claim(tx, now=at(seconds), lease_seconds=60, limit=limit)


async def _seqs(tx: AsyncConnection, *, seconds: float = 0, limit: int = 10) -> list[str]:
    return [row.seq for row in await _claim(tx, seconds=seconds, limit=limit)]


async def _replace(tx: AsyncConnection, seq: str, *, seconds: float = 0, **other: Any) -> bool:
    payload = {"text": "newer"}
    values = {"task": TASK, "kind": "notice", "seq": seq, "payload": payload, "now": at(seconds)}
    return await outbox.replace(tx, **{**values, **other})


async def _get(tx: AsyncConnection, seq: str = "1") -> OutboxRow:
    row = await outbox.get(tx, TASK, "notice", seq)
    assert row is not None
    return row


async def _send(tx: AsyncConnection, row: OutboxRow, *, seconds: float = 0) -> None:
    await outbox.sent(tx, row.id, version=row.version, remote_id=f"r{row.seq}", next_at=at(seconds))


async def test_a_message_is_stored_whole_and_once(store: Store) -> None:
    row = a_message(urgent=True, payload={"b": [1, {"text": "👀"}], "a": None})
    async with store.begin() as tx:
        assert await outbox.put(tx, row)
        assert not await outbox.put(tx, a_message())
        assert await outbox.put(tx, a_message(kind="card"))
        assert await _get(tx) == row
        assert await outbox.get(tx, TASK, "final", "1") is None
        assert [r.kind for r in await outbox.of_task(tx, TASK)] == ["notice", "card"]


async def test_a_claim_marks_the_row_and_counts(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx, seconds=5)
        assert (row.state, row.tries) == ("sending", 1)
        assert (row.claim_until, row.first_claim_at) == (at(65), at(5))
        assert await _get(tx) == row
        assert await _claim(tx, seconds=6) == []


async def test_a_row_is_not_claimed_before_it_is_due(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message(next_at=at(5)))
        assert await _seqs(tx, seconds=4.999) == []
        assert await _seqs(tx, seconds=5) == ["1"]


@pytest.mark.parametrize(
    ("busy", "taken"),
    [
        ([Destination("slack", "T0ACME")], ["2", "3", "4"]),
        ([Destination("slack")], ["1", "3", "4"]),
        ([Destination("linear"), Destination("slack", "T0AC")], ["1", "2", "4"]),
        ([Destination("slack", "T0ACME"), Destination("slack", 'a"%_')], ["2", "3"]),
    ],
)
async def test_nothing_is_taken_for_a_busy_destination(
    store: Store, busy: list[Destination], taken: list[str]
) -> None:
    places = [
        HERE,
        HERE.model_copy(update={"team": ""}),
        HERE.model_copy(update={"channel": "linear", "team": ""}),
        HERE.model_copy(update={"team": 'a"%_'}),
    ]
    async with store.begin() as tx:
        for n, place in enumerate(places, 1):
            await outbox.put(tx, a_message(str(n), conversation=place, next_at=at(n)))
        assert await outbox.next_due(tx, busy=busy) == at(int(taken[0]))
        rows = await outbox.claim(tx, now=at(9), lease_seconds=60, limit=9, busy=busy)
    assert [row.seq for row in rows] == taken


async def test_one_message_of_a_conversation_is_in_flight_in_the_order_of_putting(
    store: Store,
) -> None:
    async with store.begin() as tx:
        for seq in ("c", "a", "b"):
            await outbox.put(tx, a_message(seq))
        await outbox.put(tx, a_message("x", conversation=THERE))
        first = await _claim(tx)
        assert [row.seq for row in first] == ["c", "x"]
        assert await _seqs(tx) == []
        await _send(tx, first[0])
        assert await _seqs(tx) == ["a"]


async def test_conversations_that_look_alike_do_not_wait_for_each_other(store: Store) -> None:
    alike = HERE.model_copy(update={"team": "T0ACME:C0WEB", "place": "1.1", "thread": ""})
    async with store.begin() as tx:
        await outbox.put(tx, a_message("1"))
        await outbox.put(tx, a_message("2", conversation=alike))
        assert await _seqs(tx) == ["1", "2"]


async def test_the_urgent_overtake_what_is_not(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message("slow", created_at=at(0)))
        await outbox.put(tx, a_message("late", created_at=at(2), urgent=True))
        await outbox.put(tx, a_message("soon", created_at=at(1), urgent=True))
        await outbox.put(tx, a_message("there", created_at=at(-9), conversation=THERE))
        assert await _seqs(tx, limit=1) == ["soon"]
        await _send(tx, await _get(tx, "soon"))
        assert await _seqs(tx) == ["late", "there"]
        await _send(tx, await _get(tx, "late"))
        assert await _seqs(tx) == ["slow"]


async def test_what_changes_all_the_time_does_not_keep_others_waiting(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message(seq="1"))
        await outbox.put(tx, a_message(seq="2", conversation=THERE, next_at=at(1)))
        (busy,) = await _claim(tx, limit=1)
        await _send(tx, busy, seconds=3)
        await _replace(tx, "1", seconds=3)
        assert await _seqs(tx, seconds=4, limit=1) == ["2"]


async def test_a_newer_version_keeps_the_place_in_line(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message(seq="1"))
        await outbox.put(tx, a_message(seq="2", conversation=THERE, next_at=at(1)))
        await _replace(tx, "1", seconds=2)
        assert await _seqs(tx, seconds=3, limit=1) == ["1"]


async def test_a_row_that_waits_holds_back_those_behind_it(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message("1"))
        await outbox.put(tx, a_message("2"))
        (row,) = await _claim(tx)
        await outbox.again(tx, row.id, next_at=at(30), error="asked to wait")
        assert await _seqs(tx, seconds=29) == []
        waiting = await _get(tx)
        assert (waiting.state, waiting.error, waiting.claim_until) == (
            *("pending", "asked to wait"),
            None,
        )
        assert await outbox.next_due(tx) == at(30)
        (row,) = await _claim(tx, seconds=30)
        assert (row.seq, row.tries, row.first_claim_at) == ("1", 2, NOW)


async def test_a_dead_row_holds_back_nobody(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message("1"))
        await outbox.put(tx, a_message("2"))
        (row,) = await _claim(tx)
        await outbox.dead(tx, row.id, error="channel_not_found")
        gone = await _get(tx)
        assert (gone.state, gone.error) == ("dead", "channel_not_found")
        assert await _seqs(tx) == ["2"]


async def test_what_was_sent_is_sent_once_and_knows_its_remote_id(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        for _ in range(2):
            await _send(tx, row, seconds=3)
        done = await _get(tx)
        assert (done.state, done.remote_id, done.sent_version, done.tries) == ("sent", "r1", 1, 0)
        assert await _seqs(tx, seconds=1000) == []
        assert await outbox.next_due(tx) is None


async def test_the_same_payload_replaces_nothing(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message(payload={"b": 1, "a": [2.5, "x"]}))
        before = await _get(tx)
        assert not await _replace(tx, "1", payload={"a": [2.5, "x"], "b": 1})
        assert await _get(tx) == before
        assert not await _replace(tx, "unknown")


async def test_a_replaced_row_goes_out_in_its_newest_version_only(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message("1"))
        await outbox.put(tx, a_message("2"))
        assert await _replace(tx, "1", seconds=5)
        (row,) = await _claim(tx, seconds=5)
        assert (row.seq, row.version, row.payload) == ("1", 2, {"text": "newer"})
        await _send(tx, row)
        assert await _seqs(tx, seconds=5) == ["2"]


async def test_a_sent_row_that_is_replaced_goes_out_again_with_its_remote_id(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        await _send(tx, row)
        assert await _replace(tx, "1", seconds=9)
        (row,) = await _claim(tx, seconds=9)
        assert (row.version, row.sent_version, row.remote_id) == (2, 1, "r1")
        await _send(tx, row)
        assert (await _get(tx)).state == "sent"


async def test_a_row_replaced_in_flight_is_pending_again_when_the_old_version_is_out(
    store: Store,
) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        assert await _replace(tx, "1", seconds=1)
        assert (await _get(tx)).state == "sending"
        assert await _seqs(tx, seconds=2) == []
        await _send(tx, row, seconds=3)
        waiting = await _get(tx)
        assert (waiting.state, waiting.next_at, waiting.sent_version) == ("pending", at(3), 1)
        (row,) = await _claim(tx, seconds=3)
        await _send(tx, row)
        assert (await _get(tx)).state == "sent"


@pytest.mark.parametrize(("urgent", "due"), [(False, 8), (True, 3)])
async def test_a_newer_version_keeps_the_pace_of_edits_unless_it_is_urgent(
    store: Store, *, urgent: bool, due: float
) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        await _send(tx, row, seconds=8)
        assert await _replace(tx, "1", seconds=3, urgent=urgent)
        assert await outbox.next_due(tx) == at(due)


@pytest.mark.parametrize(("urgent", "due"), [(False, 8), (True, 0)])
async def test_a_row_replaced_in_flight_keeps_the_pace_of_edits_unless_it_is_urgent(
    store: Store, *, urgent: bool, due: float
) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        assert await _replace(tx, "1", seconds=1, urgent=urgent)
        await _send(tx, row, seconds=8)
        assert await outbox.next_due(tx) == at(due)


async def test_a_replacement_does_not_end_the_wait_that_a_rate_limit_asked_for(
    store: Store,
) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        await outbox.again(tx, row.id, next_at=at(30), error="asked to wait")
        assert await _replace(tx, "1", seconds=1)
        assert await _seqs(tx, seconds=29) == []
        assert await _seqs(tx, seconds=30) == ["1"]


@pytest.mark.parametrize(("before", "now", "after"), [(1, 0, 1), (0, 1, 1), (0, 0, 0)])
async def test_a_waiting_row_does_not_lose_its_urgency(
    store: Store, before: int, now: int, after: int
) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message(urgent=bool(before)))
        await _replace(tx, "1", urgent=bool(now))
        assert (await _get(tx)).urgent is bool(after)


async def test_a_new_version_of_a_sent_or_dead_row_is_as_urgent_as_it_says(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message(urgent=True))
        (row,) = await _claim(tx)
        await outbox.dead(tx, row.id, error="gone")
        assert await _replace(tx, "1", seconds=4)
        again = await _get(tx)
        assert (again.state, again.urgent, again.next_at, again.tries) == (
            "pending",
            False,
            at(4),
            0,
        )


async def test_a_late_word_of_an_older_version_does_not_undo_a_newer_one(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (old,) = await _claim(tx)
        await outbox.expired(tx, now=at(61))
        await _replace(tx, "1", seconds=61)
        (new,) = await _claim(tx, seconds=61)
        await _send(tx, new)
        await _send(tx, old)
        assert await _get(tx) == (await _get(tx)).model_copy(
            update={"state": "sent", "sent_version": 2}
        )


async def test_a_row_whose_sender_vanished_is_pending_again_and_remembers(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        await _claim(tx)
        assert await outbox.expired(tx, now=at(60)) == []
        (freed,) = await outbox.expired(tx, now=at(60.1))
        assert (freed.state, freed.claim_until, freed.first_claim_at) == ("pending", None, NOW)
        assert await outbox.expired(tx, now=at(99)) == []
        (row,) = await _claim(tx, seconds=61)
        assert (row.tries, row.first_claim_at) == (2, NOW)


async def test_again_and_dead_leave_alone_what_is_not_in_flight(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message())
        (row,) = await _claim(tx)
        await _send(tx, row)
        done = await _get(tx)
        await outbox.again(tx, row.id, next_at=at(9), error="late")
        await outbox.dead(tx, row.id, error="late")
        assert await _get(tx) == done


async def test_unsent_counts_what_waits_and_what_is_in_flight(store: Store) -> None:
    async with store.begin() as tx:
        for seq in ("1", "2", "3"):
            await outbox.put(tx, a_message(seq))
        await outbox.put(tx, a_message("4", task="another"))
        (row,) = await _claim(tx)
        assert await outbox.unsent(tx, TASK) == 3
        await _send(tx, row)
        assert await outbox.unsent(tx, TASK) == 2


async def test_next_due_looks_only_at_rows_that_could_be_claimed(store: Store) -> None:
    async with store.begin() as tx:
        assert await outbox.next_due(tx) is None
        await outbox.put(tx, a_message("1", next_at=at(50)))
        await outbox.put(tx, a_message("2", next_at=at(10)))
        await outbox.put(tx, a_message("3", next_at=at(70), conversation=THERE))
        assert await outbox.next_due(tx) == at(50)
        await _claim(tx, seconds=50)
        assert await outbox.next_due(tx) == at(70)


async def test_the_database_itself_refuses_two_in_flight_in_one_conversation(store: Store) -> None:
    async def force() -> None:
        async with store.begin() as tx:
            await tx.execute(text("UPDATE outbox SET state = 'sending'"))

    async with store.begin() as tx:
        await outbox.put(tx, a_message("1"))
        await outbox.put(tx, a_message("2"))
    with pytest.raises(StoreRefusedError):
        await force()


async def _send_all(store: Store, said: dict[str, list[int]]) -> None:
    unsent = 1
    while unsent:
        async with store.begin() as tx:
            rows = await _claim(tx, limit=3)
        for row in rows:
            said.setdefault(row.conversation.thread, []).append(int(row.seq))
            async with store.begin() as tx:
                await _send(tx, row)
        async with store.read() as conn:
            unsent = await outbox.unsent(conn, TASK)


async def test_senders_who_claim_at_once_never_get_the_same_row(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(2)]
    async with stores[0].begin() as tx:
        for n in range(30):
            there = HERE.model_copy(update={"thread": str(n % 10)})
            await outbox.put(tx, a_message(str(n), conversation=there))
    said: dict[str, list[int]] = {}
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(_send_all(stores[n % 2], said))
    assert said == {str(n): [n, n + 10, n + 20] for n in range(10)}
    for store in stores:
        await store.close()


async def test_what_a_dead_sender_had_in_flight_is_free_and_a_post_waits(store: Store) -> None:
    async with store.begin() as tx:
        await outbox.put(tx, a_message("posted"))
        await outbox.put(tx, a_message("edited", conversation=THERE, remote_id="r1"))
        assert len(await _claim(tx)) == 2
        await outbox.orphaned(tx, now=at(1), settled_at=at(6))
        assert await _seqs(tx, seconds=1) == ["edited"]
        assert await _seqs(tx, seconds=5.9) == []
        (row,) = await _claim(tx, seconds=6)
        assert (row.seq, row.first_claim_at) == ("posted", at(0))
