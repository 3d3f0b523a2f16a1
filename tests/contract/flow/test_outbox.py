"""What was said reaches its conversation: once, in order, however the channel behaves."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from typing_extensions import override

from bot.outbox import LEASE_SECONDS, MAX_BROKEN, MAX_TRIES, PARALLEL, SETTLE_SECONDS
from bot.rate_limits import SPREAD
from bot.said import mark, say
from bot.standing import (
    ASK_AGAIN_SECONDS,
    LOOK_AGAIN_SECONDS,
    Standing,
    destination_of,
    pause,
    stopped_destinations,
)
from bot.store import outbox
from integrations.channel import Card, Conversation, Mark, Notice, Reply
from integrations.errors import (
    AuthError,
    MalformedPayloadError,
    RateLimitedError,
    RateScope,
    RejectedError,
    UnavailableError,
)
from integrations.testing import FakeChannel
from tests.contract.flow.office import HERE, Office, send_due
from tests.support.builders import a_conversation
from tests.support.loops import running
from tests.support.site import until
from tests.support.store import a_message

AWAY = UnavailableError("fake", "timeout")
THERE = a_conversation(thread="2.0")
ABROAD = a_conversation(team="T1")


async def tell(office: Office, words: str, *, to: Conversation = HERE) -> None:
    office.clock.forward(1)
    async with office.store.begin() as tx:
        await say(tx, to, Notice(text=words), seq=words, now=office.clock.now())


async def keep_sending(office: Office, seconds: float = 60, times: int = 3) -> None:
    for _ in range(times):
        await office.send()
        office.clock.forward(seconds)
    await office.send()


async def tried(office: Office, times: int) -> None:
    async with office.store.begin() as tx:
        await tx.execute(text("UPDATE outbox SET tries = :times"), {"times": times})


async def states(office: Office) -> list[str]:
    async with office.store.read() as conn:
        return list((await conn.execute(text("SELECT state FROM outbox"))).scalars())


async def test_the_same_thing_is_said_once(office: Office) -> None:
    for _ in range(2):
        await tell(office, "hello")
    await office.send()
    assert office.channel.replies() == [Notice(text="hello")]


async def test_messages_of_a_conversation_come_in_order(office: Office) -> None:
    words = [str(n) for n in range(10)]
    for word in words:
        await tell(office, word)
    assert await office.notices() == words


@dataclass(slots=True)
class BrokenChannel(FakeChannel):
    """One with a bug that only some messages meet; the others wait for `going_on`."""

    going_on: asyncio.Event = field(default_factory=asyncio.Event)

    @override
    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        if reply == Notice(text="strange"):
            self.calls.append("broke")
            raise AttributeError("a bug")
        self.calls.append("waits")
        await self.going_on.wait()
        return await super(BrokenChannel, self).post(conversation, reply, key=key)


async def test_a_message_that_breaks_cancels_no_other(office: Office) -> None:
    office.channel = channel = BrokenChannel()
    await tell(office, "fine")
    await tell(office, "strange", to=THERE)
    async with running(office.outbox.run()):
        await until(lambda: {"waits", "broke"} <= set(channel.calls))
        channel.going_on.set()
        await until(lambda: channel.replies() == [Notice(text="fine")])
    assert channel.calls.count("waits") == 1


async def test_a_message_that_breaks_is_dead_in_the_end(office: Office) -> None:
    office.channel.fail(AttributeError("a bug"), times=MAX_BROKEN)
    await tell(office, "strange")
    await tell(office, "fine")
    await keep_sending(office, times=MAX_BROKEN - 2)
    assert await states(office) == ["pending", "pending"]
    await keep_sending(office, times=2)
    assert await states(office) == ["dead", "sent"]


async def test_a_message_that_was_posted_without_an_answer_is_found_again(office: Office) -> None:
    office.channel.fail(AWAY, after=True)
    await tell(office, "hello")
    await keep_sending(office)
    assert office.channel.replies() == [Notice(text="hello")]
    assert office.channel.calls == ["post", "find", "edit"]


async def test_a_message_that_was_not_posted_is_posted(office: Office) -> None:
    office.channel.fail(AWAY)
    await tell(office, "hello")
    await keep_sending(office)
    assert office.channel.replies() == [Notice(text="hello")]


async def test_a_sender_that_was_killed_leaves_one_message(office: Office) -> None:
    await tell(office, "hello")
    async with office.store.begin() as tx:
        now = office.clock.now()
        [row] = await outbox.claim(tx, now=now, lease_seconds=LEASE_SECONDS, limit=1)
    await office.channel.post(HERE, Notice(text="hello"), key=row.id)
    assert await send_due(office.outbox) == 0
    office.clock.forward(LEASE_SECONDS + 1)
    await office.send()
    assert office.channel.replies() == [Notice(text="hello")]


async def test_the_next_sender_takes_over_what_a_killed_one_had_in_flight(office: Office) -> None:
    await tell(office, "hello")
    async with office.store.begin() as tx:
        now = office.clock.now()
        [row] = await outbox.claim(tx, now=now, lease_seconds=LEASE_SECONDS, limit=1)
    await office.channel.post(HERE, Notice(text="hello"), key=row.id)
    await office.outbox.take_over()
    assert await send_due(office.outbox) == 0
    office.clock.forward(SETTLE_SECONDS)
    await office.send()
    assert office.channel.replies() == [Notice(text="hello")]
    assert office.channel.calls == ["post", "find", "edit"]


async def test_an_edit_that_was_in_flight_holds_back_nothing_after_a_kill(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.send()
    await office.hear("stop")
    async with office.store.begin() as tx:
        claims: dict[str, Any] = {"now": office.clock.now(), "lease_seconds": 30, "limit": 1}
        while (row := (await outbox.claim(tx, **claims))[0]).kind != "card":
            await outbox.dead(tx, row.id, error="said by somebody else")
    await office.outbox.take_over()
    await tell(office, "hello")
    assert await office.notices() == ["hello"]
    assert [card.state for card in await office.cards()] == ["stopped"]


async def test_a_dead_card_that_comes_back_is_looked_for(office: Office) -> None:
    await office.hear("acme/web fix it")
    await send_due(office.outbox)
    office.channel.fail(AWAY, after=True)
    await send_due(office.outbox)
    row = await office.outbox_row("card")
    assert (row.state, row.remote_id) == ("pending", "")
    async with office.store.begin() as tx:
        await outbox.dead(tx, row.id, error="gave up")
    await office.hear("stop")
    await keep_sending(office)
    assert len(await office.cards()) == 1


async def test_a_rate_limit_keeps_the_order_of_a_conversation(office: Office) -> None:
    office.channel.fail(RateLimitedError("fake", 30))
    await tell(office, "held")
    await send_due(office.outbox)
    await tell(office, "behind")
    assert await office.notices() == []
    office.clock.forward(30 * (1 + SPREAD))
    assert await office.notices() == ["held", "behind"]


PLACES = {"here": THERE, "next door": a_conversation(place="C0API"), "abroad": ABROAD}


@pytest.mark.parametrize(
    ("scope", "free"),
    [("workspace", ["abroad"]), ("method", ["abroad"]), ("place", ["next door", "abroad"])],
)
async def test_a_rate_limit_holds_back_what_it_counts_and_nothing_else(
    office: Office, scope: RateScope, free: list[str]
) -> None:
    office.channel.fail(RateLimitedError("fake", 30, scope=scope))
    await tell(office, "held")
    await send_due(office.outbox)
    calls = len(office.channel.calls)
    for words, place in PLACES.items():
        await tell(office, words, to=place)
    assert await office.notices() == free
    assert len(office.channel.calls) == calls + len(free)  # nobody asked in vain
    office.clock.forward(30 * (1 + SPREAD))
    assert sorted(await office.notices()) == sorted([*PLACES, "held"])


async def test_what_was_only_held_back_is_not_looked_for(office: Office) -> None:
    office.channel.fail(RateLimitedError("fake", 30))
    await tell(office, "limited")
    await send_due(office.outbox)
    await tell(office, "held", to=THERE)
    await keep_sending(office)
    assert office.channel.calls == ["post", "post", "post"]


async def test_what_may_be_there_is_looked_for_however_often_it_is_held_back(
    office: Office,
) -> None:
    office.channel.fail(AWAY, after=True)
    await tell(office, "hello")
    await send_due(office.outbox)
    office.clock.forward(60)
    office.channel.fail(AuthError("fake", "revoked"), times=2)
    await keep_sending(office, ASK_AGAIN_SECONDS[-1])
    assert office.channel.replies() == [Notice(text="hello")]


async def test_a_rate_limit_on_posts_holds_back_no_mark(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.send()
    office.channel.fail(RateLimitedError("fake", 30, scope="method"))
    await tell(office, "held", to=THERE)
    await send_due(office.outbox)
    async with office.store.begin() as tx:
        await mark(tx, await office.task(), Mark.SEEN, present=True, now=office.clock.now())
    assert Mark.SEEN in await office.marks()


async def test_a_refused_credential_stops_its_workspace_and_no_other(office: Office) -> None:
    office.channel.fail(AuthError("fake", "revoked"))
    await tell(office, "held")
    await send_due(office.outbox)
    await tell(office, "behind", to=THERE)
    await tell(office, "elsewhere", to=ABROAD)
    assert await office.notices() == ["elsewhere"]
    assert list(await stopped_destinations(office.store)) == ["fake:T0"]
    office.clock.forward(ASK_AGAIN_SECONDS[-1])
    assert sorted(await office.notices()) == ["behind", "elsewhere", "held"]
    assert await stopped_destinations(office.store) == {}


async def test_who_refuses_a_message_has_taken_the_credential(office: Office) -> None:
    office.channel.fail(AuthError("fake", "revoked"))
    office.channel.fail(RejectedError("fake", "is_archived"))
    await tell(office, "hello")
    await keep_sending(office, ASK_AGAIN_SECONDS[-1], times=1)
    assert await states(office) == ["dead"]
    assert await stopped_destinations(office.store) == {}


async def test_what_another_process_noted_is_cleared_by_who_succeeds(office: Office) -> None:
    await tell(office, "hello")
    await office.send()
    other = Standing(store=office.store, now=office.clock.now)
    await other.refused("fake:T0", AuthError("fake", "revoked"))
    office.clock.forward(LOOK_AGAIN_SECONDS + 1)
    await tell(office, "back")
    await office.send()
    assert await stopped_destinations(office.store) == {}


class HangingChannel(FakeChannel):
    """A channel of which one workspace takes calls, and never answers."""

    hangs: str = ""

    @override
    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        if conversation.team == self.hangs:
            self.calls.append("hang")
            await asyncio.Event().wait()
        return await super().post(conversation, reply, key=key)


async def test_a_workspace_that_hangs_holds_up_no_other(office: Office) -> None:
    office.channel = channel = HangingChannel()
    channel.hangs = HERE.team
    for n in range(3 * PARALLEL):
        await tell(office, f"lost {n}", to=a_conversation(thread=f"{n}.0"))
    async with running(office.outbox.run()):
        await until(lambda: channel.calls.count("hang") >= PARALLEL)
        for words in ("one", "two", "three"):
            await tell(office, words, to=ABROAD)
            office.spoken.set()
        await channel.until(lambda: len(channel.posted) == 3)
    assert channel.calls.count("hang") < 2 * PARALLEL


async def test_calls_that_an_earlier_run_never_began_hold_up_nobody(office: Office) -> None:
    outbox = office.outbox
    outbox._under_way[destination_of(HERE)] = PARALLEL
    await tell(office, "hello")
    async with running(outbox.run()):
        await office.channel.until(lambda: len(office.channel.posted) == 1)


async def test_the_last_word_does_not_wait_for_edits_of_the_card(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.send()
    office.channel.calls.clear()
    await office.hear("stop")
    await office.send()
    assert office.channel.calls[0] == "post"
    assert [r.kind for r in office.channel.replies()] == ["card", "final"]


async def test_a_card_stands_above_the_last_word(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.hear("stop")
    await office.send()
    assert [r.kind for r in office.channel.replies()] == ["card", "final"]


async def test_only_the_newest_card_is_sent(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.send()
    for words in ("stop", "go on", "stop"):
        await office.hear(words)
    await office.send()
    first = office.channel.posted[0]
    assert [c.state for c in first.forms if isinstance(c, Card)] == ["queued", "stopped"]


async def test_a_card_that_changes_while_it_is_sent_is_sent_again(office: Office) -> None:
    await office.hear("acme/web fix it")
    async with office.store.begin() as tx:
        claimed = await outbox.claim(tx, now=office.clock.now(), lease_seconds=60, limit=9)
    await office.hear("stop")
    card = next(row for row in claimed if row.kind in {"card", "mark"})
    await office.outbox.deliver(card)
    await office.send()
    assert [c.state for c in await office.cards()] == ["stopped"]


async def test_a_refused_credential_keeps_every_message(office: Office) -> None:
    office.channel.fail(AuthError("fake", "revoked"), times=3)
    await tell(office, "hello")
    await tried(office, MAX_TRIES)
    await keep_sending(office, ASK_AGAIN_SECONDS[-1])
    assert await office.notices() == ["hello"]


async def test_a_credential_that_is_soon_put_right_is_soon_used(office: Office) -> None:
    office.channel.fail(AuthError("fake", "revoked"), times=2)
    await tell(office, "hello")
    passed = 0
    while not await office.notices():
        office.clock.forward(1)
        passed += 1
    assert 15 <= passed <= 16


@pytest.mark.parametrize(("refusals", "seconds"), [(0, 5), (1, 5), (2, 10), (5, 60), (9999, 60)])
def test_a_refused_credential_is_tried_less_and_less_often(refusals: int, seconds: float) -> None:
    assert pause(refusals) == seconds


async def test_what_does_not_go_out_for_a_day_is_dead(office: Office) -> None:
    office.channel.fail(AWAY, times=2)
    await tell(office, "hello")
    await tried(office, MAX_TRIES - 1)
    await keep_sending(office)
    assert await office.notices() == []
    assert await states(office) == ["dead"]


async def test_an_outage_of_hours_loses_nothing(office: Office) -> None:
    office.channel.fail(AWAY, times=120)
    await tell(office, "hello")
    for _ in range(130):
        await send_due(office.outbox)
        office.clock.forward(100)
    assert await office.notices() == ["hello"]


async def test_what_a_channel_refuses_is_dead_and_lets_the_next_one_pass(office: Office) -> None:
    office.channel.fail(RejectedError("fake", "too_long"))
    await tell(office, "bad")
    await tell(office, "good")
    assert await office.notices() == ["good"]


async def test_a_card_that_was_deleted_keeps_back_no_last_word(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.send()
    office.channel.posted[0].message_id = "deleted"
    await office.hear("stop")
    assert len(await office.finals()) == 1
    assert (await office.outbox_row("card")).state == "dead"
    assert await office.marks() == {Mark.STOPPED}


async def test_an_answer_of_no_known_shape_is_an_unknown_outcome(office: Office) -> None:
    office.channel.fail(MalformedPayloadError("no ts"), after=True)
    await tell(office, "hello")
    await keep_sending(office)
    assert office.channel.replies() == [Notice(text="hello")]


@pytest.mark.parametrize("payload", [{"kind": "old"}, {}])
async def test_a_payload_of_another_version_is_dead_and_holds_up_nobody(
    office: Office, payload: dict[str, Any]
) -> None:
    values = {"conversation": HERE, "payload": payload, "next_at": office.clock.now()}
    async with office.store.begin() as tx:
        await outbox.put(tx, a_message("1", **values, created_at=office.clock.now()))
        await outbox.put(tx, a_message("2", **values, kind="mark", created_at=office.clock.now()))
    await tell(office, "hello")
    assert await office.notices() == ["hello"]


async def test_a_channel_that_is_off_keeps_its_messages(office: Office) -> None:
    gone = Conversation(channel="sms", place="x", thread="1")
    await tell(office, "hello", to=gone)
    await office.send()
    assert await states(office) == ["pending"]


async def test_marks_are_safe_twice(office: Office) -> None:
    await office.hear("acme/web fix it")
    task = await office.task()
    office.channel.fail(AWAY, after=True)
    async with office.store.begin() as tx:
        await mark(tx, task, Mark.SEEN, present=True, now=office.clock.now())
    await keep_sending(office)
    assert await office.marks() == {Mark.SEEN}


class BreakingChannel(FakeChannel):
    """A channel during whose first post the database begins to refuse."""

    office: Office | None = None

    @override
    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        if self.office is not None:
            async with self.office.store.begin() as tx:
                refuse = "BEFORE UPDATE ON outbox BEGIN SELECT RAISE(ABORT, 'refused'); END"
                await tx.execute(text(f"CREATE TRIGGER refuse {refuse}"))
            self.office = None
        return await super().post(conversation, reply, key=key)


async def test_a_database_that_refuses_while_sending_does_not_end_the_sender(
    office: Office,
) -> None:
    office.channel = channel = BreakingChannel()
    channel.office = office
    await tell(office, "hello")
    with capture_logs() as logs:
        async with running(office.outbox.run()):
            await until(lambda: "outbox_store_unreachable" in {line["event"] for line in logs})
            async with office.store.begin() as tx:
                await tx.execute(text("DROP TRIGGER refuse"))
            office.clock.forward(LEASE_SECONDS + 1)
            await channel.until(lambda: "edit" in channel.calls)
    assert channel.replies() == [Notice(text="hello")]
