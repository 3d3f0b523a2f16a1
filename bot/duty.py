"""Loops that an installation has once, though it may have several `serve`."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from bot.store.engine import Store
from bot.store.errors import StoreError

log = structlog.get_logger()

LOOK_SECONDS = 1.0
Loop = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True, kw_only=True)
class Duty:
    """One process has it; where that dies, another one takes it within a second or two.

    It is for what must happen in order (events) and what must not happen twice at a time (a publication, a
    completion that posts). Everything else is done by whoever comes first.
    """

    store: Store
    look_seconds: float = LOOK_SECONDS
    _ours: asyncio.Event = field(default_factory=asyncio.Event)
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Take it when it is free, and keep it, until cancelled."""
        try:
            while True:
                self._note(ours=await self._held())
                await asyncio.sleep(self.look_seconds)
        finally:
            self._note(ours=False)

    def only(self, loop: Loop) -> Loop:
        """The same loop, which runs only while the duty is ours."""

        async def on_duty() -> None:
            while True:
                await self._ours.wait()
                async with asyncio.TaskGroup() as group:
                    running = group.create_task(loop())
                    await self._lost.wait()
                    running.cancel()

        return on_duty

    async def _held(self) -> bool:
        try:
            return await self.store.duty.hold()
        except StoreError as error:
            log.warning("duty_unknown", error=repr(error))
            return False

    def _note(self, *, ours: bool) -> None:
        if ours == self._ours.is_set():
            return
        log.info("duty_taken" if ours else "duty_lost")
        now, before = (self._ours, self._lost) if ours else (self._lost, self._ours)
        before.clear()
        now.set()
