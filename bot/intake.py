"""From a delivery to a row: stored before it is acknowledged, and once however often it comes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from bot.store import inbox
from bot.store.engine import Store
from bot.store.errors import StoreError
from integrations.channel import Inbound

log = structlog.get_logger()

BATCH = 200
"""Deliveries in one transaction."""


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


@dataclass(slots=True, eq=False)
class _Delivery:
    inbound: Inbound
    outcome: bool | StoreError | None = None
    """True if it was new; None until that is known."""


@dataclass(slots=True, kw_only=True)
class Intake:
    """What every channel calls with what it received.

    What arrives while somebody else writes is stored in one transaction, because a COMMIT costs the same for one
    as for many. Everybody in it waits for that COMMIT, and its failure is everybody's.
    """

    store: Store
    arrived: Signal
    partial: Signal = field(default_factory=Signal)
    """Set where something came that its channel must complete first."""
    now: Callable[[], datetime] = utc_now
    _waiting: list[_Delivery] = field(default_factory=list)
    _storing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def receive(self, inbound: Inbound) -> bool:
        """Store it and COMMIT; then, and only then, the channel acknowledges. False if it was known."""
        new = await self._stored(inbound)
        log.info(
            "delivery_stored" if new else "delivery_repeated",
            event_id=inbound.event_id,
            conversation=inbound.conversation.key,
            author=inbound.author,
        )
        return new

    async def _stored(self, inbound: Inbound) -> bool:
        delivery = _Delivery(inbound)
        self._waiting.append(delivery)
        try:
            async with self._storing:
                # Whoever stood before us may have stored ours too; or was cancelled, and has not.
                outcome = delivery.outcome
                if outcome is None:
                    outcome = await self._store_waiting(delivery)
        finally:
            if delivery in self._waiting:
                self._waiting.remove(delivery)
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def _store_waiting(self, mine: _Delivery) -> bool | StoreError:
        batch = self._waiting[:BATCH]
        try:
            async with self.store.begin(urgent=True) as tx:
                batch = self._waiting[:BATCH]
                inbounds = [delivery.inbound for delivery in batch]
                outcomes: Sequence[bool | StoreError] = await inbox.insert_many(
                    tx, inbounds, now=self.now()
                )
        except StoreError as error:
            outcomes = [error] * len(batch)
        for delivery, outcome in zip(batch, outcomes, strict=True):
            delivery.outcome = outcome
        self._waiting = [other for other in self._waiting if other.outcome is None]
        if True in outcomes:
            self.arrived.set()
        if any(delivery.inbound.partial for delivery in batch):
            self.partial.set()
        return outcomes[batch.index(mine)]
