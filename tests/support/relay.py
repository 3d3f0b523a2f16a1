"""A wire between two programs, that can be cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PIECE = 65536
End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(one: End, other: End) -> None:
    """Pass everything on, both ways, until one of them hangs up: then the other one hears of it."""
    passing = [
        asyncio.create_task(_pass(*ways)) for ways in ((one[0], other[1]), (other[0], one[1]))
    ]
    try:
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in passing:
            way.cancel()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()


class Wire:
    """From a socket of ours to a server's."""

    def __init__(self, path: Path, server: Path) -> None:
        self._path = path
        self._server = server
        self._listening: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self.calls = 0
        """How many have called."""

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    async def mend(self) -> None:
        self._over.clear()
        self._listening = await asyncio.start_unix_server(self._take, self._path)

    async def cut(self) -> None:
        """What was said so far is lost or not, and nobody can call."""
        if self._listening is not None:
            self._listening.close()
        self._path.unlink(missing_ok=True)
        self._over.set()
        for writer in self._open:
            writer.transport.abort()

    def silence(self) -> None:
        """What is connected hears nothing more, not even an end; who calls anew is answered."""
        for passing in self._passing:
            passing.cancel()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.calls += 1
        try:
            inner, outer = await asyncio.open_unix_connection(self._server)
            with contextlib.closing(outer):
                passing = asyncio.create_task(join((reader, writer), (inner, outer)))
                self._passing.add(passing)
                await asyncio.wait({passing})
                if passing.cancelled():
                    await self._over.wait()
        finally:
            self._open.discard(writer)
            writer.close()


@asynccontextmanager
async def wire(path: Path, server: Path) -> AsyncIterator[Wire]:
    """Whole at first."""
    made = Wire(path, server)
    await made.mend()
    try:
        yield made
    finally:
        await made.cut()
