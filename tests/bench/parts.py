"""Parts of `serve` by themselves: a database and a Valkey, in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bot.store.engine import Store
from tests.support.valkey import ValkeyServer, binary


@contextlib.asynccontextmanager
async def valkey(root: Path) -> AsyncIterator[ValkeyServer]:
    program = binary()
    if program is None:
        raise FileNotFoundError("valkey-server")
    await asyncio.to_thread(root.mkdir, parents=True)
    server = ValkeyServer(program, root)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@contextlib.asynccontextmanager
async def parts(root: Path) -> AsyncIterator[tuple[Store, ValkeyServer]]:
    async with valkey(root) as server:
        store = Store(f"sqlite:///{root / 'errand.db'}")
        try:
            await store.upgrade()
            yield store, server
        finally:
            await store.close()
