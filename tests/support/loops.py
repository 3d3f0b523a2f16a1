"""Loops of ours that run beside a test."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def running(loop: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """It runs as long as this lasts; what it raises, the test raises."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(loop)
        yield task
        task.cancel()
