"""A run's events on their way to `serve`: in order, without what is applied already."""

import asyncio
from collections.abc import Iterable
from typing import Final

from runner.protocol import EventRecord, RunKey
from runner.streams import Streams

ROOM: Final = 1_000
"""Events that may wait for Redis; then the readers of the transcripts wait, and the containers' logs keep the rest."""


class Outlet:
    def __init__(self, run: RunKey, streams: Streams) -> None:
        self._run = run
        self._streams = streams
        self._applied: dict[str, int] = {}
        self._waiting: asyncio.Queue[EventRecord] = asyncio.Queue(ROOM)

    async def open(self) -> None:
        """Learn what need not be sent again."""
        self._applied = await self._streams.acknowledged(self._run)

    async def put(self, records: Iterable[EventRecord]) -> None:
        for record in records:
            if record.seq > self._applied.get(record.source, -1):
                await self._waiting.put(record)

    async def pump(self) -> None:
        """Send, until cancelled."""
        while True:
            record = await self._waiting.get()
            await self._streams.publish(record)
            self._waiting.task_done()

    async def flush(self) -> None:
        """Wait until all is sent."""
        await self._waiting.join()
