"""In front of a real Redis: for as long as a test says it answers as one that loads its data."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@dataclass(slots=True)
class LoadingRedis:
    """Connections are cut when that begins, as by the restart before it."""

    path: Path
    behind: Path
    loading: bool = False
    refused: int = 0
    """Commands that were answered with LOADING."""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def load(self) -> None:
        self.loading = True
        for writer in self._open:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_unix_connection(str(self.behind))
        async with asyncio.TaskGroup() as group:
            back = group.create_task(_pump(there, writer))
            try:
                while True:
                    command = await _command(reader)
                    if self.loading:
                        self.refused += 1
                        writer.write(LOADING)
                    else:
                        here.write(command)
            finally:
                back.cancel()
                here.close()


async def _pump(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await there.read(65_536):
        writer.write(piece)


async def _command(reader: asyncio.StreamReader) -> bytes:
    """One command as clients send it: an array of strings."""
    parts = [head := await reader.readuntil(b"\r\n")]
    for _ in range(int(head[1:])):
        parts.append(length := await reader.readuntil(b"\r\n"))
        parts.append(await reader.readexactly(int(length[1:]) + 2))
    return b"".join(parts)


@contextlib.asynccontextmanager
async def loading_redis(behind: Path) -> AsyncIterator[LoadingRedis]:
    """Beside the socket of the real one."""
    made = LoadingRedis(path=behind.with_name("loading.sock"), behind=behind)
    server = await asyncio.start_unix_server(made.serve, str(made.path))
    try:
        yield made
    finally:
        server.close()
        made.load()
