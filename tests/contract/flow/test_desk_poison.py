"""Deliveries that can't be dealt with: each is given up, is said, and holds up nobody."""

from dataclasses import fields

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from bot.desk import MAX_TRIES, Desk
from bot.store import cursors, inbox
from integrations.channel import Inbound
from tests.contract.flow.office import HERE, Office

GOOD = "acme/web fix it"


async def work_off(office: Office, times: int = MAX_TRIES) -> None:
    for _ in range(times):
        await office.desk.work_off()


async def test_a_poison_delivery_is_dead_after_so_many_tries_and_said(office: Office) -> None:
    async with office.store.begin() as tx:
        await cursors.put(tx, f"ask:{HERE.key}:fake:dana", "not an inbound")
    await office.intake.receive(office.inbound(GOOD))
    await work_off(office, MAX_TRIES - 1)
    assert await office.inbox_states() == ["new"]
    await work_off(office, 1)
    assert await office.inbox_states() == ["dead"]
    [said] = await office.notices()
    assert "could not" in said


async def test_what_the_database_refuses_is_dead_in_the_end(office: Office) -> None:
    async with office.refusing("task"):
        await office.intake.receive(office.inbound(GOOD))
        await work_off(office)
        assert await office.inbox_states() == ["dead"]
    assert len(await office.notices()) == 1


async def test_a_dead_delivery_is_dealt_with_when_the_operator_says_so(office: Office) -> None:
    asked = office.inbound(GOOD)
    async with office.refusing("task"):
        await office.intake.receive(asked)
        await work_off(office)
    async with office.store.begin() as tx:
        [dead] = await inbox.dead(tx, limit=10)
        assert (dead.tries, dead.inbound) == (MAX_TRIES, asked)
        assert dead.error
        assert await inbox.revive(tx, dead.id)
        assert not await inbox.revive(tx, dead.id)
        assert await inbox.dead(tx, limit=10) == []
    await work_off(office, 1)
    assert await office.inbox_states() == ["done"]
    assert (await office.task()).prompt == GOOD


async def test_what_the_database_refuses_holds_up_nobody(office: Office) -> None:
    async with office.refusing("task"):
        await office.intake.receive(office.inbound(GOOD, thread="1.0"))
        await office.intake.receive(office.inbound("help", thread="2.0"))
        await work_off(office, 1)
        assert await office.inbox_states() == ["new", "done"]


async def test_a_delivery_whose_death_cannot_be_said_is_dead_all_the_same(office: Office) -> None:
    async with office.refusing("outbox"):
        await office.intake.receive(office.inbound(GOOD))
        await work_off(office)
        assert await office.inbox_states() == ["dead"]


async def test_a_row_that_cannot_be_read_any_more_holds_up_nobody(office: Office) -> None:
    await office.intake.receive(office.inbound(GOOD))
    await office.intake.receive(office.inbound("help", thread="2.0"))
    async with office.store.begin() as tx:
        await tx.execute(text("UPDATE inbox SET inbound = '{\"old\": 1}' WHERE id = 1"))
    await work_off(office)
    assert await office.inbox_states() == ["dead", "done"]
    async with office.store.read() as conn:
        [dead] = await inbox.dead(conn, limit=10)
    assert (dead.id, dead.source, dead.inbound) == (1, "fake", None)


@pytest.mark.parametrize("words", ["\x00", "\ud800", "🙂" * 10_000])
async def test_strange_text_is_no_poison(office: Office, words: str) -> None:
    await office.hear(f"{GOOD} {words}")
    assert await office.inbox_states() == ["done"]


class BrokenDesk(Desk):
    """One with a bug that only some deliveries meet."""

    @override
    async def handle(self, tx: AsyncConnection, inbound: Inbound) -> bool:
        if inbound.conversation.thread == "1.0":
            raise AttributeError("a bug")
        return await Desk.handle(self, tx, inbound)


async def test_a_bug_that_one_delivery_meets_holds_up_no_other(office: Office) -> None:
    desk = office.desk
    broken = BrokenDesk(**{part.name: getattr(desk, part.name) for part in fields(desk)})
    await office.intake.receive(office.inbound(GOOD, thread="1.0"))
    await office.intake.receive(office.inbound("help", thread="2.0"))
    for _ in range(MAX_TRIES):
        await broken.work_off()
    assert await office.inbox_states() == ["dead", "done"]
