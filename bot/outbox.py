"""Sends what was said: in order per conversation, within rate limits, looking before it sends again."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.intake import Signal, utc_now
from bot.metrics import Metrics
from bot.rate_limits import Buckets, Call, Method, jittered
from bot.said import introduce, say
from bot.standing import Standing, destination_of
from bot.store import outbox, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.outbox import Destination
from bot.store.rows import OutboxRow
from integrations.channel import Channel, Conversation, Mark, Notice, Opening, Reply
from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from runner.tracing import NoTracing, Tracing

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
LEASE_SECONDS = 30.0
SETTLE_SECONDS = 5.0
"""How long after a sender's death its last call may still take effect."""
FIRST_SECONDS = 5.0
"""After so long at the latest a new message may be edited: a first plan is worth it in the slowest place."""
MAX_TRIES = 1500
"""At a minute each, an outage of a day loses nothing."""
MAX_BROKEN = 5
"""Where it is a bug, which no time mends: the conversation's other messages wait behind it."""
PARALLEL = 20
"""About so many calls at once to one workspace of a channel: one that hangs has no more, and the others have theirs."""
CALL_SECONDS = 20.0

_reply: TypeAdapter[Reply] = TypeAdapter(Reply)


@dataclass(slots=True, kw_only=True)
class Outbox:
    """The sender. A row is marked `sending` before the call; what became of it is written after."""

    store: Store
    channels: Mapping[str, Channel]
    spoken: Signal
    standing: Standing
    buckets: Buckets
    alone: bool = False
    """No other sender uses this store: what is in flight at the start was sent by one that is dead."""
    now: Callable[[], datetime] = utc_now
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=NoTracing)
    _under_way: Counter[Destination] = field(default_factory=Counter)
    """Calls that were begun and have not ended."""

    async def run(self) -> None:
        """Send until cancelled; no call waits for another one's end, except in its conversation."""
        inherited = self.alone
        self._under_way.clear()  # an earlier run may have been cancelled before all began
        async with asyncio.TaskGroup() as calls:
            while True:
                due = SWEEP_SECONDS
                try:
                    if inherited:
                        await self.take_over()
                        inherited = False
                    while rows := await self.claim():
                        for row in rows:
                            self._under_way[destination_of(row.conversation)] += 1
                            calls.create_task(self._attend(row))
                    due = await self._until_due()
                except StoreError as error:
                    log.warning("outbox_store_unreachable", error=repr(error))
                await self.spoken.wait(due)

    async def _attend(self, row: OutboxRow) -> None:
        try:
            await self.deliver(row)
        except StoreError as error:  # its lease runs out, and then it is looked for
            log.warning("outbox_store_unreachable", error=repr(error))
        except Exception:  # whatever it was: the others' calls go on, and this one as above
            log.exception("message_broke", outbox=row.id, tries=row.tries)
        finally:
            self._under_way[destination_of(row.conversation)] -= 1
            self.spoken.set()

    async def take_over(self) -> None:
        """Go on at once with what a killed sender had in flight, instead of waiting for its lease."""
        now = self.now()
        async with self.store.begin() as tx:
            settled_at = now + timedelta(seconds=SETTLE_SECONDS)
            await outbox.orphaned(tx, now=now, settled_at=settled_at)

    async def _until_due(self) -> float:
        async with self.store.read() as conn:
            due = await outbox.next_due(conn, busy=self._busy())
        if due is None:
            return SWEEP_SECONDS
        return min(SWEEP_SECONDS, max(0.02, (due - self.now()).total_seconds()))

    def _busy(self) -> list[Destination]:
        return [where for where, calls in self._under_way.items() if calls >= PARALLEL]

    async def claim(self) -> list[OutboxRow]:
        """Take what is due, one message per conversation, of workspaces that have calls left."""
        now = self.now()
        async with self.store.begin() as tx:
            await outbox.expired(tx, now=now)
            return await outbox.claim(
                tx, now=now, lease_seconds=LEASE_SECONDS, limit=PARALLEL, busy=self._busy()
            )

    async def deliver(self, row: OutboxRow) -> None:
        """Send one that was claimed, and write down what became of it."""
        channel = self.channels.get(row.conversation.channel)
        if channel is None:
            await self._later(row, UnavailableError(row.conversation.channel, "it is switched off"))
            return
        call = Call(row.conversation, _method(row))
        if wait := self.standing.wait_seconds(str(destination_of(row.conversation))):
            await self._hold(row, wait, "it refuses our credential")
        elif wait := self.buckets.wait_seconds(call):
            await self._hold(row, jittered(wait), "it asked to wait")
        else:
            await self._call(channel, row, call)

    async def _call(self, channel: Channel, row: OutboxRow, call: Call) -> None:
        destination = str(destination_of(row.conversation))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                with self.tracing.span("post", task=row.task, kind=row.kind):
                    remote_id = await self._send(channel, row)
        except RateLimitedError as error:
            self.metrics.rate_limit_wait.labels(channel.name).inc(error.retry_after)
            self.buckets.empty(call, error)
            seconds = jittered(error.retry_after)
            _tell_postponed(row, seconds, error)
            await self._hold(row, seconds, str(error), outcome="postponed")
        except AuthError as error:
            seconds = await self.standing.refused(destination, error)
            await self._hold(row, seconds, str(error))
        except RejectedError as error:
            await self._dead(row, error)
            await self.standing.accepted(destination)  # it was the message that was refused
        except Exception as error:  # noqa: BLE001  whatever it was, the others' calls go on
            await self._failed(row, error)
        else:
            await self._sent(row, remote_id)
            await self.standing.accepted(destination)

    async def _failed(self, row: OutboxRow, error: Exception) -> None:
        if isinstance(error, StoreUnavailableError):
            raise error
        if isinstance(error, ValueError | LookupError):  # a payload of another version
            await self._dead(row, error)
            return
        if isinstance(error, IntegrationError | TimeoutError):
            await self._later(row, error)
            return
        log.error("message_broke", outbox=row.id, tries=row.tries, exc_info=error)
        await self._later(row, error, most=MAX_BROKEN)

    async def _later(self, row: OutboxRow, error: Exception, *, most: int = MAX_TRIES) -> None:
        if row.tries >= most:
            await self._dead(row, error)
        else:
            await self._again(row, _backoff(row.tries), error)

    async def _send(self, channel: Channel, row: OutboxRow) -> str:
        if row.kind == "mark":
            message_id = str(row.payload["message_id"])
            await channel.mark(
                row.conversation,
                message_id,
                Mark(row.payload["mark"]),
                present=bool(row.payload["present"]),
            )
            return message_id
        if row.kind == "open":
            begun = await channel.open(
                row.conversation, Opening.model_validate(row.payload), key=row.id
            )
            return begun.model_dump_json()
        reply = _reply.validate_python(row.payload)
        known = row.remote_id or await self._find(channel, row)
        if known:
            await channel.edit(row.conversation, known, reply)
            return known
        return await channel.post(row.conversation, reply, key=row.id)

    async def _find(self, channel: Channel, row: OutboxRow) -> str | None:
        """What an earlier attempt with an unknown outcome may have left there."""
        since = _tried_since(row)
        if since is None:
            return None
        earlier = since - timedelta(seconds=5)
        return await channel.find(row.conversation, key=row.id, since=earlier)

    async def _sent(self, row: OutboxRow, remote_id: str) -> None:
        now = self.now()
        channel = self.channels[row.conversation.channel]
        pause = channel.edit_seconds if row.remote_id else min(channel.edit_seconds, FIRST_SECONDS)
        again_at = now + timedelta(seconds=pause)
        async with self.store.begin() as tx:
            await outbox.sent(
                tx, row.id, version=row.version, remote_id=remote_id, next_at=again_at
            )
            if row.kind == "open":
                await self._followed(tx, row, Conversation.model_validate_json(remote_id))
        self._count(row, "sent")
        log.info("message_sent", task=row.task, kind=row.kind, tries=row.tries)

    async def _followed(
        self, tx: AsyncConnection, row: OutboxRow, conversation: Conversation
    ) -> None:
        task = await tasks.get(tx, row.task)
        if task is None or conversation == task.conversation:
            return
        if await introduce(tx, task, conversation, now=self.now()):
            self.spoken.set()

    async def _hold(
        self, row: OutboxRow, seconds: float, reason: str, *, outcome: str = "held"
    ) -> None:
        """The fault is the destination's, and is told of once, not with every message."""
        next_at = self.now() + timedelta(seconds=seconds)
        async with self.store.begin() as tx:
            await outbox.hold(
                tx, row.id, next_at=next_at, error=reason, first=_tried_since(row) is None
            )
        self._count(row, outcome)

    async def _again(self, row: OutboxRow, seconds: float, error: Exception) -> None:
        next_at = self.now() + timedelta(seconds=seconds)
        _tell_postponed(row, seconds, error)
        async with self.store.begin() as tx:
            await outbox.again(tx, row.id, next_at=next_at, error=str(error))
        self._count(row, "postponed")

    async def _dead(self, row: OutboxRow, error: Exception) -> None:
        log.error("message_dead", task=row.task, kind=row.kind, outbox=row.id, error=str(error))
        async with self.store.begin() as tx:
            await outbox.dead(tx, row.id, error=str(error))
            if row.kind == "open":
                await self._say_not_begun(tx, row, error)
        self._count(row, "dead")

    def _count(self, row: OutboxRow, outcome: str) -> None:
        self.metrics.messages.labels(row.conversation.channel, outcome).inc()

    async def _say_not_begun(self, tx: AsyncConnection, row: OutboxRow, error: Exception) -> None:
        task = await tasks.get(tx, row.task)
        if task is None:
            return
        where = row.conversation.thread or row.conversation.where
        text = f"This errand could not be shown on {where} too: {error}."
        notice = Notice(text=text, error=True)
        await say(tx, task.conversation, notice, seq=f"open:{row.id}", now=self.now(), task=task.id)
        self.spoken.set()


def _tell_postponed(row: OutboxRow, seconds: float, error: Exception) -> None:
    told = {"task": row.task, "kind": row.kind, "seconds": round(seconds, 1)}
    log.warning("message_postponed", **told, error=str(error))


def _tried_since(row: OutboxRow) -> datetime | None:
    """When the first of the attempts before this one was made, of which it is not known what became; None without one."""
    if row.first_claim_at is None or row.claim_until is None:
        return None
    claimed_at = row.claim_until - timedelta(seconds=LEASE_SECONDS)
    return row.first_claim_at if row.first_claim_at < claimed_at else None


def _method(row: OutboxRow) -> Method:
    match row.kind:
        case "mark":
            return "mark"
        case "open":
            return "post"
        case _ if row.remote_id:
            return "edit"
        case _:
            return "find" if _tried_since(row) else "post"


def _backoff(tries: int) -> float:
    return float(min(60.0, 0.5 * 2 ** min(tries, 10)) * random.uniform(0.8, 1.2))  # noqa: S311  jitter, no secret
