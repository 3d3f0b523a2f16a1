"""What arrives at once is stored at once, and acknowledged only when it is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from bot.intake import BATCH, Intake, Signal
from bot.store import inbox
from bot.store.engine import Store
from bot.store.errors import StoreError
from integrations.channel import Inbound
from tests.contract.flow.office import Office
from tests.support.builders import an_inbound

REFUSE = """CREATE TRIGGER refuse BEFORE INSERT ON inbox WHEN NEW.event_id = 'bad'
BEGIN SELECT RAISE(ABORT, 'not this one'); END"""


class Watched(Store):
    """Notes each COMMIT of somebody who is urgent."""

    notes: list[str]

    @override
    @asynccontextmanager
    async def begin(self, *, urgent: bool = False) -> AsyncIterator[AsyncConnection]:
        async with super().begin(urgent=urgent) as tx:
            yield tx
        if urgent:
            self.notes.append("commit")


@pytest.fixture
async def store(office: Office) -> AsyncIterator[Watched]:
    store = Watched(office.store._url.render_as_string())
    store.notes = []
    yield store
    await store.close()


@pytest.fixture
def intake(store: Watched) -> Intake:
    return Intake(store=store, arrived=Signal())


def events(*names: str) -> list[Inbound]:
    return [an_inbound("do it", event=name, message=f"{name}.0") for name in names]


def numbered(count: int) -> list[Inbound]:
    return events(*(f"Ev{n}" for n in range(count)))


async def together(
    intake: Intake, inbounds: Sequence[Inbound], *, cancelled: int | None = None
) -> list[bool | BaseException]:
    """Deliver them while somebody else writes."""
    async with intake.store.begin():
        waiting = [asyncio.ensure_future(intake.receive(i)) for i in inbounds]
        await asyncio.sleep(0)
    if cancelled is not None:
        waiting[cancelled].cancel()
    return await asyncio.gather(*waiting, return_exceptions=True)


async def stored(store: Store) -> list[str]:
    async with store.read() as conn:
        return [row.inbound.event_id for row in await inbox.new(conn, limit=1000)]


async def test_what_waits_together_is_stored_with_one_commit(
    intake: Intake, store: Watched
) -> None:
    assert await together(intake, numbered(50)) == [True] * 50
    assert store.notes == ["commit"]
    assert await stored(store) == [f"Ev{n}" for n in range(50)]


async def test_more_than_a_batch_is_stored_in_several(intake: Intake, store: Watched) -> None:
    assert await together(intake, numbered(BATCH + 1)) == [True] * (BATCH + 1)
    assert store.notes == ["commit"] * 2


async def test_nobody_is_answered_before_the_commit(intake: Intake, store: Watched) -> None:
    async def answered(inbound: Inbound) -> None:
        await intake.receive(inbound)
        store.notes.append("answer")

    await asyncio.gather(*(answered(inbound) for inbound in numbered(3)))
    answers = [n for n, note in enumerate(store.notes) if note == "answer"]
    assert len(answers) == 3
    assert store.notes[0] == "commit"
    assert store.notes[: answers[-1]].count("commit") == store.notes.count("commit")


async def test_of_the_same_delivery_twice_at_once_only_one_is_new(
    intake: Intake, store: Watched
) -> None:
    twice = events("Ev1", "Ev1", "Ev2")
    assert await together(intake, twice) == [True, False, True]
    assert await stored(store) == ["Ev1", "Ev2"]


async def test_a_failure_is_the_failure_of_all_and_leaves_nothing(
    intake: Intake, store: Watched
) -> None:
    async with store.begin() as tx:
        await tx.execute(text(REFUSE))
    outcomes = await together(intake, events("Ev1", "bad", "Ev2"))
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    assert await stored(store) == []
    assert await intake.receive(events("Ev1")[0])


@pytest.mark.parametrize("cancelled", [0, 1], ids=["who stores for all", "who only waits"])
async def test_whoever_is_cancelled_takes_nobody_along(
    intake: Intake, store: Watched, cancelled: int
) -> None:
    outcomes = await together(intake, numbered(3), cancelled=cancelled)
    assert isinstance(outcomes[cancelled], asyncio.CancelledError)
    assert outcomes.count(True) == 2
    others = {f"Ev{n}" for n in range(3)} - {f"Ev{cancelled}"}
    assert others <= set(await stored(store))


async def test_only_what_is_new_wakes_the_desk(intake: Intake) -> None:
    [inbound] = events("Ev1")
    await intake.receive(inbound)
    assert intake.arrived._event.is_set()
    await intake.arrived.wait(0)
    await intake.receive(inbound)
    assert not intake.arrived._event.is_set()
