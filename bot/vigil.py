"""Looks after what nothing else moves: tickets that wait for others, and conversations that grow too quiet."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.guard import others_go_on
from bot.intake import Signal, utc_now
from bot.metrics import Metrics
from bot.said import places_in_line, quiet_since, say_everywhere, show_card, whereabouts
from bot.standing import destination_of
from bot.states import LIVE, TaskState
from bot.store import tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.outbox import Destination
from bot.store.rows import TaskRow
from integrations.channel import Channel, Notice
from integrations.errors import IntegrationError
from integrations.tracker import Tracker

log = structlog.get_logger()

SWEEP_SECONDS = 5.0
ASK_AGAIN = timedelta(seconds=30)
"""Between two questions after what one task waits for."""
CALL_SECONDS = 10.0
PAGE = 200
"""So many tasks are asked for in a row; whoever was asked for longest ago comes first."""
AT_ONCE = 25
"""So many cards are brought up to date in one transaction: everybody else who writes waits for it."""


@dataclass(slots=True, kw_only=True)
class Vigil:
    """All is safe twice, and late rather than lost when a service does not answer."""

    store: Store
    channels: Mapping[str, Channel]
    trackers: Mapping[str, Tracker]
    queued: Signal
    spoken: Signal
    now: Callable[[], datetime] = utc_now
    call_seconds: float = CALL_SECONDS
    metrics: Metrics = field(default_factory=Metrics)
    _asked: dict[str, datetime] = field(default_factory=dict)
    """When it was asked what they wait for, by task."""
    _told: dict[str, str] = field(default_factory=dict)
    """The places in line that the cards show, by task."""
    _woken: Signal = field(default_factory=Signal)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                for duty in (self.release, self.break_silence, self.tell_the_line):
                    with self._others_go_on(duty=duty.__name__):
                        await duty()
            except StoreError as error:
                log.warning("vigil_store_unreachable", error=repr(error))
            await self._woken.wait(SWEEP_SECONDS)

    async def release(self) -> int:
        """Let tasks start whose tickets wait for nothing more; how many."""
        freed, hung = 0, set[Destination]()
        for task in await self._due():
            if (where := destination_of(task.conversation)) in hung:
                continue
            self._asked[task.id] = self.now()
            with self._others_go_on(task=task.id):
                try:
                    freed += await self._ask(task)
                except TimeoutError:
                    hung.add(where)  # until the next time: those of others have their turn
                    log.warning("blockers_unknown", task=task.id, error="no answer")
        if freed:
            self.queued.set()
            self.spoken.set()
        return freed

    async def _due(self) -> list[TaskRow]:
        """Some of those that wait: each has its turn, however many they are."""
        async with self.store.read() as conn:
            held = await tasks.waiting(conn, limit=PAGE + len(self._asked))
        self._asked = {task.id: self._asked[task.id] for task in held if task.id in self._asked}
        before = self.now() - ASK_AGAIN
        due = [task for task in held if self._asked.get(task.id, before) <= before]
        due.sort(key=lambda task: (task.id in self._asked, self._asked.get(task.id, before)))
        return due[:PAGE]

    async def _ask(self, task: TaskRow) -> bool:
        tracker = self.trackers.get(task.conversation.channel)
        try:
            async with asyncio.timeout(self.call_seconds):
                left = () if tracker is None else await tracker.blockers(task.conversation)
        except IntegrationError as error:
            log.warning("blockers_unknown", task=task.id, error=repr(error))
            return False
        return await self._waits_for(task, left)

    async def _waits_for(self, task: TaskRow, left: tuple[str, ...]) -> bool:
        if left == task.waits_for:
            return False
        async with self.store.begin() as tx:
            fresh = await tasks.get(tx, task.id)
            if fresh is None or fresh.state is not TaskState.QUEUED:
                return False  # it may have ended while the tracker was asked
            since = fresh.changed_at if left else self.now()  # released, it waits for its turn
            await tasks.update(tx, task.id, waits_for=left, changed_at=since)
            fresh = fresh.model_copy(update={"waits_for": left, "changed_at": since})
            if not left:
                text = f"{', '.join(task.waits_for)} is done: this can start now."
                await say_everywhere(tx, fresh, Notice(text=text), seq="released", now=self.now())
            await show_card(tx, fresh, now=self.now())
        return not left

    async def break_silence(self) -> int:
        """Show the cards of live work again where nothing was said for longer than the place bears; how many."""
        async with self.store.read() as conn:
            live = await tasks.in_states(conn, LIVE)
            silent = []
            for task in live:
                with self._others_go_on(task=task.id):
                    if await self._is_silent(conn, task):
                        silent.append(task)
        for task in silent:
            with self._others_go_on(task=task.id):
                async with self.store.begin() as tx:
                    fresh = await tasks.get(tx, task.id)
                    if fresh is not None and fresh.state in LIVE:
                        await show_card(tx, fresh, now=self.now())
        if silent:
            self.spoken.set()
        return len(silent)

    async def tell_the_line(self) -> None:
        """Say on the cards of what waits how much is before it, where that has changed."""
        async with self.store.read() as conn:
            places = await places_in_line(conn)
        changed = [id_ for id_, place in places.items() if self._told.get(id_) != place]
        for first in range(0, len(changed), AT_ONCE):
            await self._tell({id_: places[id_] for id_ in changed[first : first + AT_ONCE]})
        self._told = places
        if changed:
            self.spoken.set()

    async def _tell(self, places: Mapping[str, str]) -> None:
        """Together if they can be; else each alone, so that one which breaks leaves out itself only."""
        try:
            await self._tell_at_once(places)
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001  which one it is, and why, is told where it is alone
            for id_, place in places.items():
                with self._others_go_on(task=id_):
                    await self._tell_at_once({id_: place})

    async def _tell_at_once(self, places: Mapping[str, str]) -> None:
        async with self.store.begin() as tx:
            for id_, place in places.items():
                fresh = await tasks.get(tx, id_)
                if fresh is not None and fresh.state is TaskState.QUEUED:
                    await show_card(tx, fresh, now=self.now(), place=place)

    async def _is_silent(self, conn: AsyncConnection, task: TaskRow) -> bool:
        for conversation in await whereabouts(conn, task):
            channel = self.channels.get(conversation.channel)
            since = await quiet_since(conn, task, conversation)
            if channel is None or since is None:
                continue
            if (self.now() - since).total_seconds() >= channel.silence_seconds:
                return True
        return False

    def _others_go_on(self, **about: str) -> AbstractContextManager[None]:
        # The latter ends the transaction that it is in.
        return others_go_on("vigil", self.metrics, StoreUnavailableError, SQLAlchemyError, **about)
