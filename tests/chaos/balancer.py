"""What stands before several `serve`: each connection goes to one of them that takes it, whichever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

PIECE = 65536


class Balancer:
    def __init__(self, ports: Sequence[int], rng: Random) -> None:
        self._ports = ports
        self._rng = rng

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._take, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            for port in self._rng.sample(self._ports, len(self._ports)):
                try:
                    inner, outer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    continue
                with contextlib.closing(outer):
                    await _join(_pass(reader, outer), _pass(inner, writer))
                return


async def _join(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one of two sides hangs up: then the other one hears of it."""
    passing = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in passing:
            one.cancel()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
