"""Which destinations refuse our credential: each stands still by itself, is seen to, and goes on when it is mended."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from pydantic import BaseModel, ConfigDict

from bot.intake import utc_now
from bot.store import cursors
from bot.store.engine import Store
from bot.store.figures import STOPPED

log = structlog.get_logger()

ASK_AGAIN_SECONDS = 60.0


class Stopped(BaseModel):
    """What is noted of a destination that stands still."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    since: datetime
    reason: str


@dataclass(slots=True, kw_only=True)
class Standing:
    """One per process; the notes are for everybody who asks the database."""

    store: Store
    now: Callable[[], datetime] = utc_now
    _until: dict[str, datetime] = field(default_factory=dict)
    _noted: set[str] | None = None
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wait_seconds(self, destination: str) -> float:
        """How long nobody should call it; 0 if it may be called."""
        until = self._until.get(destination)
        return 0.0 if until is None else max(0.0, (until - self.now()).total_seconds())

    async def refused(self, destination: str, error: Exception) -> None:
        """It has just refused our credential."""
        self._until[destination] = self.now() + timedelta(seconds=ASK_AGAIN_SECONDS)
        async with self._changing:
            known = await self._known()
            if destination in known:
                return
            note = Stopped(since=self.now(), reason=str(error))
            async with self.store.begin() as tx:
                await cursors.put(tx, f"{STOPPED}{destination}", note.model_dump_json())
            known.add(destination)
        log.error("destination_stopped", destination=destination, error=str(error))

    async def accepted(self, destination: str) -> None:
        """It has just taken our credential."""
        async with self._changing:
            known = await self._known()
            if destination not in known:
                return
            async with self.store.begin() as tx:
                await cursors.drop(tx, f"{STOPPED}{destination}")
            known.discard(destination)
            self._until.pop(destination, None)
        log.info("destination_resumed", destination=destination)

    async def _known(self) -> set[str]:
        """Once from the database: a predecessor may have noted it."""
        if self._noted is None:
            async with self.store.read() as conn:
                self._noted = set(await cursors.starting(conn, STOPPED))
        return self._noted


async def stopped_destinations(store: Store) -> dict[str, Stopped]:
    """Those that stand still, by name."""
    async with store.read() as conn:
        notes = await cursors.starting(conn, STOPPED)
    return {name: Stopped.model_validate_json(note) for name, note in notes.items()}
