"""Who writes next, where one writes at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bot.store.errors import StoreUnavailableError


class Turns:
    """First come, first served; but what is urgent waits for nobody but whoever writes at this moment.

    After an urgent turn it is somebody else's, so neither kind can keep the other out.
    """

    def __init__(self, *, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._taken = False
        self._urgent_before = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Ours while the block runs.

        Raises:
            StoreUnavailableError: it did not come in time.
        """
        await self._take(self._urgent if urgent else self._others)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, queue: deque[asyncio.Future[None]]) -> None:
        if not self._taken:
            self._taken, self._urgent_before = True, queue is self._urgent
            return
        mine = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._wait(mine)
        except TimeoutError as error:
            raise StoreUnavailableError(f"no turn within {self._wait_seconds:g} s") from error
        finally:
            if mine in queue:
                queue.remove(mine)

    async def _wait(self, mine: asyncio.Future[None]) -> None:
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # the turn came at the very moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        kinds = (
            (self._others, self._urgent) if self._urgent_before else (self._urgent, self._others)
        )
        for queue in kinds:
            while queue:
                following = queue.popleft()
                if not following.done():
                    self._urgent_before = queue is self._urgent
                    following.set_result(None)
                    return
        self._taken = False
