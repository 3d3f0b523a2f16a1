"""The processes `serve`, and `up`, which is `work` besides."""

import asyncio

from bot.metrics import Metrics
from bot.settings import Settings
from bot.wiring import open_services
from bot.workshop import open_redis, open_worker, prepare_images


async def serve(settings: Settings) -> None:
    """HTTP, channels, dispatch, publication, replies."""
    async with (
        open_redis(settings) as redis_url,
        open_services(settings, redis_url=redis_url) as services,
    ):
        await services.run()


async def up(settings: Settings) -> None:
    """Both, in one process."""
    await prepare_images(settings)
    metrics = Metrics()
    async with (
        open_redis(settings) as redis_url,
        open_services(settings, redis_url=redis_url, metrics=metrics) as services,
        open_worker(settings, redis_url=redis_url, registry=metrics.registry) as worker,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(services.run())
        group.create_task(worker.run())
