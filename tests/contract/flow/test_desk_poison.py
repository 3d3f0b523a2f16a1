"""Deliveries that can't be dealt with: each is given up, is said, and holds up nobody."""

from dataclasses import fields

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from bot.answers import Answers
from bot.desk import FAILED, MAX_TRIES, Desk
from bot.store import cursors, inbox
from bot.store.errors import StoreUnavailableError
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


def broken(office: Office, kind: type[Desk] = BrokenDesk) -> Desk:
    desk = office.desk
    return kind(**{part.name: getattr(desk, part.name) for part in fields(desk)})


async def died_and_revived(office: Office, words: str) -> None:
    await office.intake.receive(office.inbound(words, thread="1.0"))
    desk = broken(office)
    for _ in range(MAX_TRIES):
        await desk.work_off()
    async with office.store.begin() as tx:
        assert await inbox.revive(tx, 1)
    office.clock.forward(60)


async def test_what_is_dealt_with_again_is_answered(office: Office) -> None:
    await died_and_revived(office, "help")
    await office.desk.work_off()
    failed, answered = await office.notices()
    assert failed == FAILED
    assert "stop" in answered


async def test_who_asked_hears_of_each_death(office: Office) -> None:
    await died_and_revived(office, "help")
    desk = broken(office)
    for _ in range(MAX_TRIES):
        await desk.work_off()
    assert await office.notices() == [FAILED, FAILED]


class SpeechlessDesk(BrokenDesk):
    """The database is away when it wants to say something."""

    @property
    @override
    def _answers(self) -> Answers:
        raise StoreUnavailableError("away")


async def test_nothing_is_dead_before_that_is_said(office: Office) -> None:
    await office.intake.receive(office.inbound("help", thread="1.0"))
    desk = broken(office, SpeechlessDesk)
    for _ in range(MAX_TRIES - 1):
        await desk.work_off()
    with pytest.raises(StoreUnavailableError):
        await desk.work_off()
    assert await office.inbox_states() == ["new"]


async def test_a_bug_that_one_delivery_meets_holds_up_no_other(office: Office) -> None:
    desk = broken(office)
    await office.intake.receive(office.inbound(GOOD, thread="1.0"))
    await office.intake.receive(office.inbound("help", thread="2.0"))
    for _ in range(MAX_TRIES):
        await desk.work_off()
    assert await office.inbox_states() == ["dead", "done"]
