"""Which destinations refuse our credential: each stands still by itself, is seen to, and goes on when it is mended."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.intake import utc_now
from bot.store import cursors
from bot.store.engine import Store
from bot.store.figures import STOPPED
from integrations.channel import Conversation

log = structlog.get_logger()

ASK_AGAIN_SECONDS = (5.0, 60.0)
"""A refused credential may be put right in a moment, or in a week: doubled from one to the other."""


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
    _refusals: dict[str, int] = field(default_factory=dict)
    _noted: set[str] | None = None
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wait_seconds(self, destination: str) -> float:
        """How long nobody should call it; 0 if it may be called."""
        until = self._until.get(destination)
        return 0.0 if until is None else max(0.0, (until - self.now()).total_seconds())

    async def refused(self, destination: str, error: Exception) -> float:
        """It has just refused our credential; for how many seconds nobody should call it."""
        if self.wait_seconds(destination) == 0:  # and not one of several calls at a time
            self._refusals[destination] = self._refusals.get(destination, 0) + 1
            seconds = pause(self._refusals[destination])
            self._until[destination] = self.now() + timedelta(seconds=seconds)
        await self._note(destination, error)
        return self.wait_seconds(destination)

    async def _note(self, destination: str, error: Exception) -> None:
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
        self._refusals.pop(destination, None)
        self._until.pop(destination, None)
        async with self._changing:
            known = await self._known()
            if destination not in known:
                return
            async with self.store.begin() as tx:
                await cursors.drop(tx, f"{STOPPED}{destination}")
            known.discard(destination)
        log.info("destination_resumed", destination=destination)

    async def _known(self) -> set[str]:
        """Once from the database: a predecessor may have noted it."""
        if self._noted is None:
            async with self.store.read() as conn:
                self._noted = set(await cursors.starting(conn, STOPPED))
        return self._noted


def pause(refusals: int) -> float:
    """How long to wait after so many refusals in a row."""
    first, longest = ASK_AGAIN_SECONDS
    return min(longest, first * 2.0 ** min(max(refusals - 1, 0), 10))


async def note_removed(tx: AsyncConnection, where: Conversation, *, now: datetime) -> None:
    """Somebody has taken the bot out of a workspace: nothing can be said there until it is back."""
    note = Stopped(since=now, reason="the app was removed from this workspace")
    await cursors.put(tx, _workspace(where), note.model_dump_json())


async def note_back(tx: AsyncConnection, where: Conversation) -> None:
    """Something was said there: it is in that workspace (again)."""
    if where.team and await cursors.get(tx, _workspace(where)):
        await cursors.drop(tx, _workspace(where))
        log.info("destination_resumed", destination=f"{where.channel}:{where.team}")


def _workspace(where: Conversation) -> str:
    return f"{STOPPED}{where.channel}:{where.team}"


async def stopped_destinations(store: Store) -> dict[str, Stopped]:
    """Those that stand still, by name."""
    async with store.read() as conn:
        notes = await cursors.starting(conn, STOPPED)
    return {name: Stopped.model_validate_json(note) for name, note in notes.items()}
