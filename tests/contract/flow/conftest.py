import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bot.bus import Bus
from bot.store.engine import Store
from tests.contract.flow.office import Office
from tests.contract.flow.yard import ScriptedHost, Yard
from tests.support.store import sqlite_template
from tests.support.valkey import ValkeyServer, redis, valkey

__all__ = ["redis", "sqlite_template", "valkey"]


@pytest.fixture
async def office(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Office]:
    shutil.copy(sqlite_template, tmp_path / "errand.db")
    store = Store(f"sqlite:///{tmp_path / 'errand.db'}")
    yield Office(store=store)
    await store.close()


@pytest.fixture
async def bus(valkey: ValkeyServer, office: Office) -> AsyncIterator[Bus]:
    """With a host on it that has room for all."""
    bus = await Bus.open(valkey.url)
    await ScriptedHost(bus.redis, "h1", office).announce()
    yield bus
    await bus.close()


@pytest.fixture
def yard(office: Office, bus: Bus, redis: Redis) -> Yard:
    return Yard.of(office, bus, redis)
