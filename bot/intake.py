"""From a delivery to a row: stored before it is acknowledged, and once however often it comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from bot.store import inbox
from bot.store.engine import Store
from integrations.channel import Inbound

log = structlog.get_logger()


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Signal:
    """Wakes a loop in this process; the loop's own interval is the truth, this only makes it quick."""

    _event: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self) -> None:
        self._event.set()

    async def wait(self, limit: float) -> None:
        """Until somebody called `set`, or `limit` seconds have passed."""
        try:
            async with asyncio.timeout(limit):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What every channel calls with what it received."""

    store: Store
    arrived: Signal
    now: Callable[[], datetime] = utc_now

    async def receive(self, inbound: Inbound) -> bool:
        """Store it and COMMIT; then, and only then, the channel acknowledges. False if it was known."""
        async with self.store.begin() as tx:
            new = await inbox.insert(tx, inbound, now=self.now())
        if new:
            self.arrived.set()
        log.info(
            "delivery_stored" if new else "delivery_repeated",
            event_id=inbound.event_id,
            conversation=inbound.conversation.key,
            author=inbound.author,
        )
        return new
