"""What stands before several `serve`: each connection goes to one of them that takes it, whichever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

from tests.support.relay import join


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
                    await join((reader, writer), (inner, outer))
                return
