"""Which destinations refuse our credential: each stands still by itself, is seen to, and goes on when it is mended.

A destination is one workspace of a channel, `slack:T0ACME`, or a forge, `github`.
"""

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
from bot.store.outbox import Destination
from integrations.channel import Conversation

log = structlog.get_logger()

ASK_AGAIN_SECONDS = (5.0, 60.0)
"""A refused credential may be put right in a moment, or in a week: doubled from one to the other."""
LOOK_AGAIN_SECONDS = 30.0
"""So old may what is known of the notes be: another process may have made or dropped one."""


class Stopped(BaseModel):
    """What is noted of a destination that stands still."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    since: datetime
    reason: str
    removed: bool = False
    """Somebody took the app out; it is back as soon as anything is said there."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """One per process; the notes are for everybody who asks the database."""

    store: Store
    now: Callable[[], datetime] = utc_now
    _until: dict[str, datetime] = field(default_factory=dict)
    _refusals: dict[str, int] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)
    _looked_at: datetime | None = None
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
        """Destinations that are noted, by whom ever."""
        now = self.now()
        if self._looked_at is None or (now - self._looked_at).total_seconds() > LOOK_AGAIN_SECONDS:
            async with self.store.read() as conn:
                self._noted = set(await cursors.starting(conn, STOPPED))
            self._looked_at = now
        return self._noted


def pause(refusals: int) -> float:
    """How long to wait after so many refusals in a row."""
    first, longest = ASK_AGAIN_SECONDS
    return min(longest, first * 2.0 ** min(max(refusals - 1, 0), 10))


def destination_of(where: Conversation) -> Destination:
    """What has one credential, and its own slots."""
    return Destination(where.channel, where.team)


async def note_removed(tx: AsyncConnection, where: Conversation, *, now: datetime) -> None:
    """Somebody has taken the bot out of a workspace: nothing can be said there until it is back."""
    note = Stopped(since=now, reason="the app was removed from this workspace", removed=True)
    await cursors.put(tx, _workspace(where), note.model_dump_json())


async def note_back(tx: AsyncConnection, where: Conversation) -> None:
    """Something was said there: it is in that workspace (again)."""
    note = await cursors.get(tx, _workspace(where)) if where.team else None
    if note and Stopped.model_validate_json(note).removed:
        await cursors.drop(tx, _workspace(where))
        log.info("destination_resumed", destination=str(destination_of(where)))


def _workspace(where: Conversation) -> str:
    return f"{STOPPED}{destination_of(where)}"


async def stopped_destinations(store: Store) -> dict[str, Stopped]:
    """Those that stand still, by name."""
    async with store.read() as conn:
        notes = await cursors.starting(conn, STOPPED)
    return {name: Stopped.model_validate_json(note) for name, note in notes.items()}
