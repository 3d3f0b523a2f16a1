"""Parts of `serve` by themselves: a database and a Valkey, in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bot.store.engine import Store
from tests.support.valkey import ValkeyServer, binary


@contextlib.asynccontextmanager
async def parts(root: Path) -> AsyncIterator[tuple[Store, ValkeyServer]]:
    program = binary()
    if program is None:
        raise FileNotFoundError("valkey-server")
    await asyncio.to_thread(root.mkdir, parents=True)
    store, valkey = Store(f"sqlite:///{root / 'errand.db'}"), ValkeyServer(program, root)
    await valkey.start()
    try:
        await store.upgrade()
        yield store, valkey
    finally:
        await store.close()
        await valkey.kill()
