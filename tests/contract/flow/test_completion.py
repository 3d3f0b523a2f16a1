"""Deliveries are completed once, by whichever `serve` has the duty."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typing_extensions import override

from bot.settings import Settings
from bot.store import inbox
from bot.wiring import Services, open_services
from integrations.channel import Inbound
from integrations.testing import FakeChannel
from tests.support.builders import an_inbound
from tests.support.installation import until
from tests.support.store import postgres_database, postgres_server, postgres_template
from tests.support.valkey import ValkeyServer

__all__ = ["postgres_database", "postgres_server", "postgres_template"]

SECOND_LOOK_SECONDS = 3.0
"""Longer than a `serve` leaves between two looks."""


@dataclass(slots=True)
class PostingChannel(FakeChannel):
    """A completion takes as long as another `serve` needs to begin the same one."""

    completed: Counter[str] = field(default_factory=Counter)
    _twice: asyncio.Event = field(default_factory=asyncio.Event)

    @override
    async def complete(self, inbound: Inbound) -> Inbound:
        self.completed[inbound.event_id] += 1
        if self.completed[inbound.event_id] > 1:
            self._twice.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(SECOND_LOOK_SECONDS):
                await self._twice.wait()
        return inbound.model_copy(update={"partial": False})


@asynccontextmanager
async def completing(*replicas: Services) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        loops = [
            group.create_task(services.loops[name]())
            for services in replicas
            for name in ("duty", "completion")
        ]
        yield
        for loop in loops:
            loop.cancel()


@pytest.mark.postgres
@pytest.mark.redis
async def test_what_came_to_one_of_two_replicas_is_completed_once(
    postgres_database: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres_database)
    channel = PostingChannel()
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(
                open_services(settings, redis_url=valkey.url, more_channels=[channel])
            )
            for _ in range(2)
        ]

        async def all_whole() -> bool:
            async with one.store.read() as conn:
                return len(await inbox.new(conn, limit=10)) == len(channel.completed) == 2

        async with completing(one, other):
            for n, replica in enumerate((one, other)):
                message = an_inbound("fix it", event=f"Ev{n}", message=f"{n}.0")
                await replica.intake.receive(message.model_copy(update={"partial": True}))
            await until(all_whole, seconds=30, what="both are completed")
    assert channel.completed == Counter({"Ev0": 1, "Ev1": 1})
