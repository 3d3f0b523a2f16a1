"""A channel for tests: remembers what was said in it, and fails when told to."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from fastapi import APIRouter

from integrations.channel import (
    Conversation,
    Inbound,
    Mark,
    Opening,
    Receive,
    Reply,
    Suggestion,
)
from integrations.errors import RejectedError

R = TypeVar("R", bound=Reply)


@dataclass(slots=True, kw_only=True)
class Posted:
    """One message of ours, with every form it has had."""

    conversation: Conversation
    message_id: str
    key: str
    at: datetime
    forms: list[Reply]

    @property
    def reply(self) -> Reply:
        return self.forms[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    error: Exception
    after: bool


@dataclass(slots=True)
class FakeChannel:
    """A channel in memory, and a tracker.

    `fail` makes the next call raise; `deliver` says something to whoever listens.
    """

    name: str = "fake"
    edit_seconds: float = 0.0
    silence_seconds: float = 3600.0
    connected: bool | None = None
    names: dict[str, str] = field(default_factory=dict)
    """What `name_of` answers; the id itself for others."""
    posted: list[Posted] = field(default_factory=list)
    marks: dict[tuple[str, str], set[Mark]] = field(default_factory=dict)
    """Reactions that are there, by conversation key and message id."""
    openings: dict[str, tuple[Conversation, Opening]] = field(default_factory=dict)
    """Conversations that `open` began, by key."""
    completion: dict[str, object] = field(default_factory=dict)
    """What `complete` adds."""
    suggestion: Suggestion | None = None
    waits: tuple[str, ...] = ()
    """What `blockers` answers."""
    problems: list[str] = field(default_factory=list)
    """What `check` answers."""
    calls: list[str] = field(default_factory=list)
    """Names of the methods called, in order."""
    closed: bool = False
    _faults: deque[_Fault] = field(default_factory=deque)
    _inbound: asyncio.Queue[Inbound] = field(default_factory=asyncio.Queue)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: Exception, *, after: bool = False, times: int = 1) -> None:
        """Let the next calls of anything but names raise; `after` they have taken effect."""
        self._faults.extend(_Fault(error=error, after=after) for _ in range(times))

    def deliver(self, inbound: Inbound) -> None:
        self._inbound.put_nowait(inbound)

    def replies(self, conversation: Conversation | None = None) -> list[Reply]:
        """Every message as it stands now."""
        return [p.reply for p in self.posted if conversation in (None, p.conversation)]

    async def until(self, true: Callable[[], bool], *, seconds: float = 10) -> None:
        """Wait for a condition on this channel; `TimeoutError` if it does not come."""
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def said(self, kind: type[R], *, seconds: float = 10) -> R:
        """Wait for a message of this kind and return the newest."""
        found: list[R] = []

        def there() -> bool:
            found[:] = [p.reply for p in self.posted if isinstance(p.reply, kind)]
            return bool(found)

        await self.until(there, seconds=seconds)
        return found[-1]

    async def complete(self, inbound: Inbound) -> Inbound:
        fault = self._called("complete")
        self._done(fault)
        return inbound.model_copy(update={**self.completion, "partial": False})

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        fault = self._called("open")
        made = where.model_copy(update={"thread": where.thread or f"opened-{key}"})
        found, _ = self.openings.setdefault(key, (made, opening))
        self._done(fault)
        return found

    async def suggest(self, inbound: Inbound, repos: Sequence[str]) -> Suggestion | None:
        fault = self._called("suggest")
        self._done(fault)
        return self.suggestion

    async def blockers(self, conversation: Conversation) -> tuple[str, ...]:
        fault = self._called("blockers")
        self._done(fault)
        return self.waits

    def item_in(self, text: str) -> str | None:
        return next((word for word in text.split() if word.startswith("FAKE-")), None)

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        fault = self._called("post")
        message_id = str(len(self.posted) + 1)
        self.posted.append(
            Posted(
                conversation=conversation,
                message_id=message_id,
                key=key,
                at=datetime.now(UTC),
                forms=[reply],
            )
        )
        self._done(fault)
        return message_id

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        fault = self._called("edit")
        for posted in self.posted:
            if (posted.conversation, posted.message_id) == (conversation, message_id):
                posted.forms.append(reply)
                break
        else:
            raise RejectedError(self.name, "message_not_found")
        self._done(fault)

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        fault = self._called("mark")
        there = self.marks.setdefault((conversation.key, message_id), set())
        (there.add if present else there.discard)(mark)
        self._done(fault)

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        fault = self._called("find")
        ids = [
            p.message_id
            for p in self.posted
            if p.conversation == conversation and p.key == key and p.at >= since
        ]
        self._done(fault)
        return ids[0] if ids else None

    async def name_of(self, person: str) -> str:
        return self.names.get(person, person.removeprefix(f"{self.name}:"))

    def routes(self, receive: Receive) -> APIRouter | None:
        return None

    async def listen(self, receive: Receive) -> None:
        while True:
            await receive(await self._inbound.get())

    async def check(self) -> list[str]:
        return list(self.problems)

    async def close(self) -> None:
        self.closed = True

    def _called(self, name: str) -> _Fault | None:
        self.calls.append(name)
        fault = self._faults.popleft() if self._faults else None
        if fault is not None and not fault.after:
            raise fault.error
        return fault

    def _done(self, fault: _Fault | None) -> None:
        self._changed.set()
        if fault is not None:
            raise fault.error
