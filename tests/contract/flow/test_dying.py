"""`serve` dies at every single step between SQL and Redis; the next one goes on, and nothing is lost or doubled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from bot.bus import Bus
from bot.states import TaskState
from bot.store.engine import Store
from runner import keys
from runner.protocol import Said
from tests.contract.flow.office import Office
from tests.contract.flow.yard import Yard, done

pytestmark = pytest.mark.redis
ASK = "acme/web fix it"
DISPATCH, APPLY = 23, 13
"""Steps of each, by the tests that count them."""


class DiedError(BaseException):
    """The process ended here, and nothing in it goes on."""


@dataclass(slots=True)
class Life:
    """Ends at a step; without one it counts them."""

    until: int = -1
    steps: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) - 1 == self.until:
            raise DiedError(name)


class MortalBus(Bus):
    """Before and after each call."""

    life: Life

    @override
    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in {"life", "redis"}:
            return found

        async def call(*args: Any, **values: Any) -> Any:
            self.life.step(f"before {name}")
            answer = await found(*args, **values)
            self.life.step(f"after {name}")
            return answer

        return call


class MortalStore(Store):
    """Before a transaction, before its COMMIT, and after it."""

    life: Life

    @override
    @asynccontextmanager
    async def begin(self, *, urgent: bool = False) -> AsyncIterator[AsyncConnection]:
        self.life.step("before BEGIN")
        async with super().begin(urgent=urgent) as tx:
            yield tx
            self.life.step("before COMMIT")
        self.life.step("after COMMIT")


@asynccontextmanager
async def mortal(office: Office, bus: Bus, life: Life) -> AsyncIterator[tuple[Store, Bus]]:
    store, mortal_bus = MortalStore(f"sqlite:///{office.store.file}"), MortalBus(bus.redis)
    store.life = mortal_bus.life = life
    try:
        yield store, mortal_bus
    finally:
        await store.close()


async def dispatched(yard: Yard, life: Life) -> None:
    async with mortal(yard.office, yard.bus, life) as (store, bus):
        doomed = yard.dispatcher
        yard.dispatcher = Yard.of(yard.office, yard.bus, yard.redis).dispatcher
        doomed.store, doomed.bus = store, bus
        await doomed.dispatch()
        await doomed.reconcile()


async def applied(yard: Yard, life: Life) -> None:
    async with mortal(yard.office, yard.bus, life) as (store, bus):
        doomed = yard.applier
        yard.applier = Yard.of(yard.office, yard.bus, yard.redis).applier
        doomed.store, doomed.bus = store, bus
        await doomed.step(pending=False)


async def test_the_steps_of_a_dispatch_are_all_tried(yard: Yard) -> None:
    await yard.office.hear(ASK)
    life = Life()
    await dispatched(yard, life)
    assert len(life.steps) == DISPATCH, life.steps


@pytest.mark.parametrize("step", range(DISPATCH))
async def test_a_dispatch_that_dies_anywhere_is_made_up_for(yard: Yard, step: int) -> None:
    await yard.office.hear(ASK)
    with pytest.raises(DiedError):
        await dispatched(yard, Life(step))

    await yard.dispatcher.dispatch()
    await yard.wait_out_the_grace()
    await yard.dispatcher.dispatch()
    [run] = await yard.host.take()
    await yard.tell(run, yard.host.started(), done(changed=False))
    task = await yard.office.task()
    assert (task.state, task.fence) == (TaskState.SUCCEEDED, run.fence)
    assert task.attempts == 1
    assert len(await yard.office.finals()) == 1


async def test_the_steps_of_applying_are_all_tried(yard: Yard) -> None:
    run = await yard.running()
    await yard.host.tell(run, Said(text="x"), done(changed=False))
    life = Life()
    await applied(yard, life)
    assert len(life.steps) == APPLY, life.steps


@pytest.mark.parametrize("step", range(APPLY))
async def test_an_applier_that_dies_anywhere_is_made_up_for(yard: Yard, step: int) -> None:
    run = await yard.running()
    await yard.host.tell(run, Said(text="x"), done(changed=False))
    with pytest.raises(DiedError):
        await applied(yard, Life(step))

    while await yard.applier.step(pending=True):
        pass
    await yard.apply()
    assert (await yard.office.task()).state is TaskState.SUCCEEDED
    assert (await yard.in_redis(run.task))["state"] == "done"
    assert await yard.redis.xlen(keys.EVENTS) == 0
    assert len(await yard.office.finals()) == 1
    async with yard.office.store.read() as conn:
        kinds = (await conn.execute(text("SELECT kind FROM event ORDER BY kind"))).scalars()
        assert list(kinds) == ["finished", "said", "started"]
