"""Who writes next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bot.store.errors import StoreUnavailableError
from bot.store.turns import Turns


class Line:
    """People who wait for a turn, and the order in which they had it."""

    def __init__(self, group: asyncio.TaskGroup, *, wait_seconds: float = 30) -> None:
        self.turns = Turns(wait_seconds=wait_seconds)
        self.had: list[str] = []
        self._group = group

    async def wait(self, name: str, *, urgent: bool = False) -> asyncio.Task[None]:
        """Queue up, and be sure to stand there."""
        task = self._group.create_task(self._have(name, urgent=urgent))
        await asyncio.sleep(0)
        return task

    async def _have(self, name: str, *, urgent: bool) -> None:
        async with self.turns.turn(urgent=urgent):
            self.had.append(name)
            await asyncio.sleep(0)


@asynccontextmanager
async def line(*, wait_seconds: float = 30) -> AsyncIterator[Line]:
    """Ends when everybody has had a turn."""
    async with asyncio.TaskGroup() as group:
        yield Line(group, wait_seconds=wait_seconds)


async def test_the_first_to_come_is_the_first_to_write() -> None:
    async with line() as waiting, waiting.turns.turn(urgent=False):
        for name in "abc":
            await waiting.wait(name)
    assert waiting.had == ["a", "b", "c"]


async def test_only_one_writes_at_a_time() -> None:
    async with line() as waiting, waiting.turns.turn(urgent=False):
        await waiting.wait("a", urgent=True)
        await asyncio.sleep(0)
        assert waiting.had == []


async def test_what_is_urgent_passes_those_who_wait_but_keeps_nobody_out() -> None:
    async with line() as waiting, waiting.turns.turn(urgent=False):
        for name in "ab":
            await waiting.wait(name)
        for name in "xyz":
            await waiting.wait(name, urgent=True)
    assert waiting.had == ["x", "a", "y", "b", "z"]


async def test_whoever_is_cancelled_while_waiting_is_passed_over() -> None:
    async with line() as waiting, waiting.turns.turn(urgent=False):
        gone = await waiting.wait("gone")
        await waiting.wait("a")
        gone.cancel()
    assert waiting.had == ["a"]


async def test_a_turn_that_comes_as_its_owner_is_cancelled_goes_to_the_next() -> None:
    async with line() as waiting:
        async with waiting.turns.turn(urgent=False):
            gone = await waiting.wait("gone")
            await waiting.wait("a")
        gone.cancel()
    assert waiting.had == ["a"]


async def test_an_error_in_a_turn_ends_it() -> None:
    turns = Turns(wait_seconds=30)
    with pytest.raises(LookupError):
        async with turns.turn(urgent=False):
            raise LookupError
    async with turns.turn(urgent=False):
        pass


async def test_a_turn_that_does_not_come_in_time_is_an_error_and_the_next_may() -> None:
    turns = Turns(wait_seconds=0.01)
    async with turns.turn(urgent=False):
        with pytest.raises(StoreUnavailableError):
            async with turns.turn(urgent=True):
                pass
    async with turns.turn(urgent=True):
        pass
