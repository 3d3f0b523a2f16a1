"""What Slack could not deliver is looked for in its history: the same Inbounds as by event."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from pydantic import ValidationError

from integrations.errors import (
    AuthError,
    IntegrationError,
    MalformedPayloadError,
    RateLimitedError,
    RejectedError,
)
from integrations.notes import Notes
from integrations.paging import onward
from integrations.slack.arrivals import Arrivals
from integrations.slack.client import Page, SlackClient
from integrations.slack.payloads import Id, Read, Ts

log = structlog.get_logger()

OVERLAP: Final = timedelta(minutes=5)
"""Slack stamps by its own clock; what is seen twice is known by its key."""
OLDEST: Final = timedelta(hours=24)
"""What is older is nobody's wish any more."""
WHOLE_EVERY: Final = timedelta(hours=1)
"""Between two looks into all threads of the last day: nothing tells us that events were missed meanwhile."""
REMEMBERED: Final = 20_000


class Place(Read):
    """A conversation that the bot is a member of."""

    id: Id
    is_im: bool = False
    is_mpim: bool = False
    is_private: bool = False
    is_ext_shared: bool = False

    @property
    def kind(self) -> str:
        """As events call it."""
        if self.is_im or self.is_mpim:
            return "im" if self.is_im else "mpim"
        return "group" if self.is_private else "channel"


class Said(Read):
    """Of a message what says where it stands."""

    ts: Ts
    thread_ts: Ts | None = None
    latest_reply: Ts | None = None


MOST_WAITS: Final = 10
"""So often in a row one call is put off; then its place is left out until the next round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What a round looks for in a workspace."""

    client: SlackClient
    team: str
    at: datetime
    """What is older is known."""
    roots: datetime
    """So far back threads are looked at for new replies."""


@dataclass(slots=True, kw_only=True)
class CatchUp:
    """Several replicas may ask: what one has stored, the store knows for all.

    One note for each workspace says since when to look into everything: at the start, and every hour. It moves only
    after a whole round, so that one that was cut off is made again. In between, old threads without work are left out.
    """

    arrivals: Arrivals
    notes: Notes
    calls_a_minute: int
    told: Callable[[bool], None]
    """Whether our credentials are taken, after each round."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _looked: dict[str, datetime] = field(default_factory=dict)
    """When a workspace was looked at last."""
    _whole: dict[str, datetime] = field(default_factory=dict)
    """And when at all of it."""

    async def run(self, every_seconds: float) -> None:
        """Look at once, and again and again until cancelled."""
        while True:
            try:
                await self.round()
            except Exception:  # whatever it was: who listens beside us listens on
                log.exception("slack_not_asked")
            await self.pause(every_seconds * random.uniform(0.8, 1.2))  # noqa: S311  no secret

    async def round(self) -> None:
        """Look everywhere. A workspace that can't be asked does not hold up the others."""
        try:
            clients = await self.arrivals.workspaces.clients()
        except IntegrationError as error:
            log.warning("slack_not_asked", error=str(error))
            self.told(not isinstance(error, AuthError))
            return
        self.told(all(await asyncio.gather(*(self._takes_us(client) for client in clients))))

    async def _takes_us(self, client: SlackClient) -> bool:
        """Look into one workspace, whatever comes of it. False if our credential is not accepted there."""
        try:
            await self.ask(client)
        except IntegrationError as error:
            log.warning("slack_not_asked", error=str(error))
            return not isinstance(error, AuthError)
        except Exception:  # whatever it was: the other workspaces are looked into
            log.exception("slack_not_asked")
        return True

    async def ask(self, client: SlackClient) -> None:
        """What a workspace has that is new; all of it is stored before that is noted."""
        team, now = (await client.identity()).team_id, self.now()
        name = f"slack:cursor:{team}"
        known = await self.notes.get(name)
        whole = team not in self._whole or now - self._whole[team] >= WHOLE_EVERY
        if known is not None:
            last = datetime.fromisoformat(known) if whole else self._looked[team]
            at = max(last - OVERLAP, now - OLDEST)
            roots = now - OLDEST if whole else at
            if not await self._look(Since(client=client, team=team, at=at, roots=roots)):
                return
        self._looked[team] = now
        if whole:
            self._whole[team] = now
            await self.notes.put(name, now.isoformat())

    async def _look(self, since: Since) -> bool:
        """In every place, then in threads. False if one of them could not be asked just now."""
        front, whole = self.arrivals.front, True
        places = {place.id: place async for place in self._places(since.client)}
        threads = {(c.place, c.thread) for c in await front.live("slack") if c.team == since.team}
        for place in places.values():
            if front.is_open(f"slack:{place.id}", shared=place.is_ext_shared):
                found = await self._history(since, place)
                whole, threads = whole and found is not None, threads | (found or set())
        for where, thread in sorted(threads):
            if where in places and thread:
                whole = await self._replies(since, places[where], thread) and whole
        return whole

    async def _places(self, client: SlackClient) -> AsyncIterator[Place]:
        kinds = "public_channel,private_channel,im,mpim"
        asked = {"types": kinds, "exclude_archived": "true"}
        async for raw in self._pages(client, "users.conversations", asked):
            try:
                yield Place.model_validate(raw)
            except ValidationError:
                log.warning("slack_place_unreadable")

    async def _history(self, since: Since, place: Place) -> set[tuple[str, str]] | None:
        """What was said in a place; the threads in which something was replied, or None if it could not be asked."""
        asked = {"channel": place.id, "oldest": f"{since.roots.timestamp():.6f}"}
        found = await self._messages(since, place, "conversations.history", asked)
        if found is None:
            return None
        replied = {
            (place.id, said.ts)
            for said, _ in found
            if said.latest_reply and float(said.latest_reply) >= since.at.timestamp()
        }
        await self._take(since, place, found)
        return replied

    async def _replies(self, since: Since, place: Place, thread: str) -> bool:
        asked = {"channel": place.id, "ts": thread, "oldest": f"{since.at.timestamp():.6f}"}
        found = await self._messages(since, place, "conversations.replies", asked)
        await self._take(since, place, found or [])
        return found is not None

    async def _messages(
        self, since: Since, place: Place, method: str, asked: Mapping[str, str]
    ) -> list[tuple[Said, Mapping[str, object]]] | None:
        """Oldest first; none where we are not let in, and None where nobody can say."""
        found: dict[str, tuple[Said, Mapping[str, object]]] = {}
        try:
            async for raw in self._pages(since.client, method, {**asked, "inclusive": "1"}):
                try:
                    said = Said.model_validate(raw)
                except ValidationError:
                    log.warning("slack_message_unreadable", place=place.id)
                    continue
                found[said.ts] = (said, raw)
        except AuthError:
            raise
        except RejectedError as error:
            log.info("slack_place_closed", place=place.id, error=str(error))
        except IntegrationError as error:
            log.warning("slack_place_not_asked", place=place.id, error=str(error))
            return None
        return [found[ts] for ts in sorted(found, key=float)]

    async def _take(
        self, since: Since, place: Place, found: list[tuple[Said, Mapping[str, object]]]
    ) -> None:
        for said, raw in found:
            key = f"{since.team}:{place.id}:{said.ts}"
            if float(said.ts) < since.at.timestamp() or key in self._seen:
                continue
            try:
                await self.arrivals.take(_as_event(since.team, place, said, raw))
            except MalformedPayloadError as error:
                log.warning("slack_message_unreadable", place=place.id, reason=str(error))
            self._seen[key] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    async def _pages(
        self, client: SlackClient, method: str, asked: Mapping[str, str]
    ) -> AsyncIterator[Mapping[str, object]]:
        cursor, seen = "", set[str]()
        while True:
            page = await self._paced(client, method, {**asked, "cursor": cursor})
            for raw in page.found:
                yield raw
            if not page.next:
                return
            cursor = onward(page.next, seen, service="slack")

    async def _paced(self, client: SlackClient, method: str, asked: Mapping[str, str]) -> Page:
        """As often as we may, and no sooner than Slack says: nobody waits for this."""
        for _ in range(MOST_WAITS):
            await self.pause(60 / self.calls_a_minute)
            try:
                return await client.page(method, asked)
            except RateLimitedError as error:
                log.info("slack_history_waits", method=method, seconds=error.retry_after)
                await self.pause(error.retry_after)
        return await client.page(method, asked)


def _as_event(team: str, place: Place, said: Said, raw: Mapping[str, object]) -> dict[str, object]:
    """The event that would have told it."""
    event = {**raw, "type": "message", "channel": place.id, "channel_type": place.kind}
    if said.thread_ts == said.ts:  # it was no reply when it was said
        del event["thread_ts"]
    return {
        "type": "event_callback",
        "event_id": f"polled-{place.id}-{said.ts.replace('.', '-')}",
        "team_id": team,
        "is_ext_shared_channel": place.is_ext_shared,
        "event": event,
    }
