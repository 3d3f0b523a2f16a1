import asyncio
import threading
from collections.abc import Iterator

import pytest

from runner.docker.stream import DEPTH, threaded


class Numbers:
    """A stream of numbers that waits for ever after `count`, until it is interrupted."""

    def __init__(self, count: int, *, waits: bool = False, error: Exception | None = None) -> None:
        self.count = count
        self.waits = waits
        self.error = error
        self.given = 0
        self.interrupted = threading.Event()
        self.released = threading.Event()

    def __iter__(self) -> Iterator[int]:
        while self.given < self.count:
            self.given += 1
            yield self.given
        if self.waits:
            assert self.interrupted.wait(20)
        if self.error is not None:
            raise self.error

    def interrupt(self) -> None:
        self.interrupted.set()

    def release(self) -> None:
        self.released.set()


async def released(numbers: Numbers) -> bool:
    return await asyncio.to_thread(numbers.released.wait, 20)


async def test_items_come_in_order_and_all() -> None:
    numbers = Numbers(10 * DEPTH)
    assert [n async for n in threaded(lambda: numbers)] == list(range(1, 10 * DEPTH + 1))
    assert await released(numbers)


async def test_a_slow_reader_holds_the_thread_back() -> None:
    numbers = Numbers(10 * DEPTH)
    items = threaded(lambda: numbers)
    assert await anext(items) == 1
    await items.aclose()
    assert await released(numbers)
    assert numbers.given <= DEPTH + 3


async def test_cancelling_interrupts_a_read_that_waits() -> None:
    numbers = Numbers(1, waits=True)

    async def read() -> None:
        async for _ in threaded(lambda: numbers):
            pass

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await read()
    assert await released(numbers)


async def test_what_the_stream_raises_is_raised_after_its_items() -> None:
    numbers = Numbers(2, error=OSError("broken"))
    items = threaded(lambda: numbers)
    assert [await anext(items), await anext(items)] == [1, 2]
    with pytest.raises(OSError, match="broken"):
        await anext(items)


async def test_what_opening_raises_is_raised() -> None:
    def refuse() -> Numbers:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await anext(threaded(refuse))
