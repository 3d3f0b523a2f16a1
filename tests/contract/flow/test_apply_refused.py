"""An event that can't be applied: it is tried again, in its place, and neither other runs nor its own wait for ever."""

import asyncio
from dataclasses import dataclass, fields
from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs
from typing_extensions import override

from bot.apply import AGAIN_SECONDS, BATCH, TRIES, Applier
from bot.states import TaskState
from bot.store import tasks
from bot.store.rows import RunRow
from runner import keys
from runner.protocol import EventRecord, RunKey, Said
from tests.contract.flow.yard import Yard, done
from tests.support.site import until

pytestmark = pytest.mark.redis
STRANGE = Said(text="strange")


@dataclass(slots=True, kw_only=True)
class BrokenApplier(Applier):
    """One with a bug that only `STRANGE` meets, until it is mended."""

    mended: bool = False

    @override
    async def _fold(self, tx: AsyncConnection, row: RunRow, new: list[EventRecord]) -> None:
        if not self.mended and STRANGE in [record.event for record in new]:
            raise TypeError("a bug")
        await Applier._fold(self, tx, row, new)


@pytest.fixture
def broken(yard: Yard) -> BrokenApplier:
    parts = {part.name: getattr(yard.applier, part.name) for part in fields(yard.applier)}
    yard.applier = made = BrokenApplier(**parts)
    return made


async def another(yard: Yard) -> RunKey:
    """A second run that has begun."""
    await yard.office.hear("acme/web another", thread="9.0")
    return await yard.again()


async def retry(yard: Yard) -> int:
    yard.office.clock.forward(AGAIN_SECONDS)
    return await yard.applier.step(pending=True)


async def state_of(yard: Yard, run: RunKey) -> TaskState:
    async with yard.office.store.read() as conn:
        task = await tasks.get(conn, run.task)
    assert task is not None
    return task.state


async def said(yard: Yard) -> list[str]:
    """In the order in which it was applied."""
    query = "SELECT json_extract(event, '$.text') FROM event WHERE kind = 'said' ORDER BY rowid"
    async with yard.office.store.read() as conn:
        return list((await conn.execute(text(query))).scalars())


async def test_a_bug_that_one_run_meets_holds_up_no_other(
    yard: Yard, broken: BrokenApplier
) -> None:
    first, second = await yard.running(), await another(yard)
    await yard.host.tell(first, STRANGE)
    await yard.host.tell(second, done())
    await broken.step(pending=False)
    assert await state_of(yard, second) is TaskState.PUBLISHING
    assert await yard.redis.xlen(keys.EVENTS) == 1


async def test_what_comes_after_a_refused_event_waits_for_it(
    yard: Yard, broken: BrokenApplier
) -> None:
    run = await yard.running()
    await yard.host.tell(run, Said(text="before"), STRANGE, Said(text="after"))
    await broken.step(pending=False)
    await yard.host.tell(run, Said(text="later"), done())
    await broken.step(pending=False)
    assert await said(yard) == ["before"]
    broken.mended = True
    assert await broken.step(pending=True) == 0, "it was tried a moment ago"
    await retry(yard)
    assert await said(yard) == ["before", "strange", "after", "later"]
    assert await state_of(yard, run) is TaskState.PUBLISHING
    assert await yard.redis.xlen(keys.EVENTS) == 0


@pytest.mark.parametrize("seq", [2**63, 10])
async def test_an_event_that_is_refused_for_good_does_not_hold_up_the_end_for_ever(
    yard: Yard, seq: int
) -> None:
    run = await yard.running()
    odd = yard.host.record(run, Said(text="odd"), seq=seq)
    if seq == 10:
        odd = odd.model_copy(update={"at": datetime(2026, 1, 1)})  # noqa: DTZ001 - a time without a zone is the point
    await yard.redis.xadd(keys.EVENTS, {"r": odd.model_dump_json()})
    await yard.host.tell(run, Said(text="fine"))
    await yard.applier.step(pending=False)
    for _ in range(TRIES - 1):
        assert await said(yard) == []
        await retry(yard)
    assert await said(yard) == ["fine"]
    await yard.host.tell(run, done())
    await yard.applier.step(pending=False)
    assert await state_of(yard, run) is TaskState.PUBLISHING
    assert await yard.redis.xlen(keys.EVENTS) == 1, "it is tried again, should the fault be ours"


async def test_an_end_that_was_refused_is_tried_again_without_a_new_start(yard: Yard) -> None:
    run = await yard.running()
    yard.office.finished._event.clear()
    await yard.host.tell(run, done())
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            async with yard.office.refusing("audit"):
                applying = group.create_task(yard.applier.run())
                await until(lambda: "event_refused" in {line["event"] for line in logs})
            yard.office.clock.forward(AGAIN_SECONDS)
            await until(yard.office.finished._event.is_set)
            applying.cancel()
    assert await state_of(yard, run) is TaskState.PUBLISHING


async def test_each_try_is_told_and_counted(yard: Yard, broken: BrokenApplier) -> None:
    run = await yard.running()
    await yard.host.tell(run, STRANGE)
    with capture_logs() as logs:
        await broken.step(pending=False)
        for _ in range(TRIES):
            await retry(yard)
    told = [(line["log_level"], line["run"], line["tries"]) for line in logs if "tries" in line]
    assert told == [("error", str(run), n + 1) for n in range(TRIES + 1)]
    counted = broken.metrics.registry.get_sample_value(
        "errand_loop_failures_total", {"loop": "apply"}
    )
    assert counted == TRIES + 1


async def test_what_lies_behind_much_that_waits_is_reached(
    yard: Yard, broken: BrokenApplier
) -> None:
    """After a start, when all of it was delivered before."""
    first, second = await yard.running(), await another(yard)
    await yard.host.tell(first, STRANGE, *(Said(text="x") for _ in range(BATCH + 1)))
    await yard.host.tell(second, done())
    await yard.bus.events(count=2 * BATCH, block_ms=10, pending=False)
    while await broken.step(pending=True):
        pass
    assert await state_of(yard, second) is TaskState.PUBLISHING
    broken.mended = True
    await retry(yard)
    assert await said(yard) == ["strange", *["x"] * (BATCH + 1)]


async def test_what_redis_has_lost_is_waited_for_no_more(yard: Yard, broken: BrokenApplier) -> None:
    run = await yard.running()
    await yard.host.tell(run, STRANGE)
    await broken.step(pending=False)
    await yard.redis.flushall()
    assert await retry(yard) == 0
    await yard.host.tell(run, Said(text="fine"))
    await broken.step(pending=False)
    assert await said(yard) == ["fine"]
