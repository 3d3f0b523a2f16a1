"""One clock for every process of an installation: the database's, since leases of one are judged by others."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.intake import utc_now
from bot.store.engine import Store
from bot.store.errors import StoreError

log = structlog.get_logger()

LOOK_SECONDS: Final = 60.0
WRONG_SECONDS: Final = 2.0
"""A host whose own clock differs by more should be told of."""


def since_boot() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class StoreClock:
    """Looked at once a minute; in between it goes on by itself, whatever is done to this host's clock."""

    def __init__(
        self,
        store: Store,
        *,
        steady: Callable[[], float] = since_boot,
        local: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._steady = steady
        self._local = local
        self._seen = local()
        self._seen_at = steady()

    def now(self) -> datetime:
        return self._seen + timedelta(seconds=self._steady() - self._seen_at)

    async def look(self) -> None:
        """Errors: `StoreError`."""
        before = self._steady()
        seen = await self._store.time() or self._local()
        after = self._steady()
        self._seen, self._seen_at = seen, (before + after) / 2
        wrong = (self._local() - self.now()).total_seconds()
        if abs(wrong) > WRONG_SECONDS:
            log.warning("clock_differs", seconds=round(wrong, 1), hint="set this host's clock")

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except StoreError as error:
                log.warning("clock_not_seen", error=repr(error))
