"""Asks channels for what their deliveries left out, before anything is decided."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import words
from bot.asks import to_start
from bot.in_force import InForce
from bot.intake import Signal, utc_now
from bot.store import inbox
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.rows import InboxRow
from integrations.channel import Channel, Inbound
from integrations.errors import AuthError, IntegrationError, RateLimitedError, RejectedError
from integrations.tracker import Tracker
from policies.decide import decide
from policies.model import Choice, Policy

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
"""What another `serve` was told of is seen no later."""
BATCH = 20
"""About so many calls at once of one channel: one that hangs has no more, and the others have theirs."""
CALL_SECONDS = 10.0
PAUSES = (1.0, 3.0, 10.0)
"""Between tries. After the last one it goes on without: late is worse than incomplete."""
LONGEST_SECONDS = 300.0
"""Of one pause, whatever a service asks for that is asked too often: it can't be answered there meanwhile anyway."""
SURE = 0.7
"""From here on a suggestion counts; Linear's own advice."""


@dataclass(slots=True)
class _Trouble:
    tries: int
    not_before: datetime


@dataclass(slots=True, kw_only=True)
class Completer:
    """Everything that the desk wants to know and only the network can tell, so that the desk never waits for it."""

    store: Store
    channels: Mapping[str, Channel]
    trackers: Mapping[str, Tracker]
    in_force: InForce
    partial: Signal
    arrived: Signal
    now: Callable[[], datetime] = utc_now
    _troubles: dict[int, _Trouble] = field(default_factory=dict)
    _under_way: dict[int, str] = field(default_factory=dict)
    """Channels of what was taken and is not settled, by row."""

    @property
    def policy(self) -> Policy:
        return self.in_force.policy

    async def run(self) -> None:
        """Complete what comes, until cancelled; no delivery waits for another one's answer."""
        self._under_way.clear()  # an earlier run may have been cancelled before all began
        async with asyncio.TaskGroup() as calls:
            while True:
                try:
                    while rows := await self.take():
                        for row in rows:
                            calls.create_task(self._attend(row))
                except StoreError as error:
                    log.warning("completion_store_unreachable", error=repr(error))
                await self.partial.wait(SWEEP_SECONDS)

    async def _attend(self, row: InboxRow) -> None:
        try:
            await self.settle(row)
        except StoreError as error:
            log.warning("completion_store_unreachable", error=repr(error))
            # What its channel has said is lost: it is not asked again at once, and again.
            self._troubles[row.id] = _Trouble(
                self._tries(row), self.now() + timedelta(seconds=PAUSES[0])
            )
        except Exception:  # whatever it was: the others' calls go on
            log.exception("completion_broke", inbox=row.id)
        finally:
            self.partial.set()

    async def take(self) -> list[InboxRow]:
        """What is due and not under way, the oldest first; each is to be settled."""
        try:
            async with self.store.read() as conn:
                # All at one moment: a call that ends goes from one of these to the other.
                now, under_way = self.now(), list(self._under_way)
                paused = [id_ for id_, one in self._troubles.items() if one.not_before > now]
                calls = Counter(self._under_way.values())
                busy = [channel for channel, number in calls.items() if number >= BATCH]
                rows = await inbox.raw(conn, limit=BATCH, but_not=paused + under_way, busy=busy)
        except ValidationError:
            await bury_unreadable(self.store, raw=True)
            self.partial.set()
            return []
        self._under_way |= {row.id: row.inbound.conversation.channel for row in rows}
        return rows

    async def settle(self, row: InboxRow) -> bool:
        """Complete one that was taken; True if it is now whole."""
        try:
            inbound = await self._completed(row)
            if inbound is None:
                return False
            self._troubles.pop(row.id, None)
            async with self.store.begin() as tx:
                await inbox.complete(tx, row.id, inbound)
        finally:
            del self._under_way[row.id]
        self.arrived.set()
        return True

    async def _completed(self, row: InboxRow) -> Inbound | None:
        """None if it is to be tried again later."""
        trouble: Exception
        tries = self._tries(row)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._with_suggestion(await self._asked(row.inbound))
        except StoreUnavailableError:
            raise
        except (IntegrationError, TimeoutError) as error:
            trouble = error
            log.warning("completion_failed", inbox=row.id, tries=tries + 1, error=repr(error))
        except Exception as error:  # whatever it was: the others' calls go on
            trouble = error
            log.exception("completion_broke", inbox=row.id, tries=tries + 1)
        if tries >= _most(trouble):
            return row.inbound.model_copy(update={"partial": False})
        self._troubles[row.id] = _Trouble(tries + 1, self.now() + _pause(tries, trouble))
        return None

    def _tries(self, row: InboxRow) -> int:
        return self._troubles[row.id].tries if row.id in self._troubles else 0

    async def _asked(self, inbound: Inbound) -> Inbound:
        channel = self.channels.get(inbound.conversation.channel)
        whole = inbound if channel is None else await channel.complete(inbound)
        return whole.model_copy(update={"partial": False})

    async def _with_suggestion(self, inbound: Inbound) -> Inbound:
        """Where the policy leaves several repositories open, the ticket's service may know which."""
        tracker = self.trackers.get(inbound.conversation.channel)
        if tracker is None or inbound.happening == "withdrawn":
            return inbound
        request = words.read(inbound.text, repos=tuple(self.policy.repos), title=inbound.title)
        decision = decide(self.policy, to_start(inbound, request, repo=request.repo))
        if not isinstance(decision, Choice):
            return inbound
        suggested = await tracker.suggest(inbound, decision.options)
        sure = suggested is not None and suggested.confidence >= SURE
        return inbound.model_copy(update={"suggested": suggested if sure else None})


def _most(trouble: Exception) -> int:
    """How often it is tried again. A refusal once: a service may tell of what not all of it knows yet."""
    refused = isinstance(trouble, RejectedError) and not isinstance(trouble, AuthError)
    return 1 if refused else len(PAUSES)


def _pause(tries: int, trouble: Exception) -> timedelta:
    wanted = trouble.retry_after if isinstance(trouble, RateLimitedError) else 0.0
    return timedelta(seconds=max(PAUSES[tries], min(wanted, LONGEST_SECONDS)))


async def complete_ones(conn: AsyncConnection, *, limit: int) -> list[InboxRow]:
    """New deliveries, the oldest first, in whose conversation nothing earlier is still being completed.

    `ValidationError` as for `inbox.new`.
    """
    found = await inbox.new(conn, limit=limit)
    first = await inbox.held_up(conn) if found else {}
    while found:
        rows = [row for row in found if row.id < first.get(row.inbound.conversation.key, math.inf)]
        if rows:
            return rows
        found = await inbox.new(conn, limit=limit, after=found[-1].id)
    return []


async def bury_unreadable(store: Store, *, raw: bool) -> int:
    """Rows of another version, or damaged: nobody can be told, and nobody waits for them. How many it were."""
    async with store.begin() as tx:
        found = await inbox.unreadable(tx, raw=raw)
        for row_id in found:
            await inbox.finish(tx, row_id, state="dead")
    log.error("deliveries_unreadable", inbox=found)
    return len(found)
