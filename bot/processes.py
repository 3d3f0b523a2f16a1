"""The processes: `serve`, `work`, and both in one for a small team."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import structlog

from bot.settings import Settings
from bot.wiring import open_redis, open_services, open_worker, prepare_images

log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """HTTP, channels, dispatch, publication, replies."""
    async with (
        open_redis(settings) as redis_url,
        open_services(settings, redis_url=redis_url) as services,
    ):
        await services.run()


async def work(settings: Settings) -> None:
    """Launches and follows runs on this Docker host."""
    await prepare_images(settings)
    async with (
        open_redis(settings) as redis_url,
        open_worker(settings, redis_url=redis_url) as worker,
    ):
        log.info("working", serve=settings.serve_url, slots=settings.work.slots)
        await worker.run()


async def up(settings: Settings) -> None:
    """Both, in one process."""
    await prepare_images(settings)
    async with (
        open_redis(settings) as redis_url,
        open_services(settings, redis_url=redis_url) as services,
        open_worker(settings, redis_url=redis_url) as worker,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(services.run())
        group.create_task(worker.run())


def run_until_signalled(main: Coroutine[Any, Any, None]) -> None:
    """Run it until it ends, or until SIGTERM or SIGINT cancels it; nothing is lost by either.

    Raises:
        KeyboardInterrupt: it was SIGINT.
    """
    received: list[signal.Signals] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(main)

            def stop(number: signal.Signals) -> None:
                received.append(number)
                running.cancel()

            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop, number)

    asyncio.run(watched())
    if signal.SIGINT in received:
        raise KeyboardInterrupt
