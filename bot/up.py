"""`serve` and `work` in one process."""

import asyncio

from bot.metrics import Metrics
from bot.settings import Settings
from bot.valkey import open_redis
from bot.wiring import open_services
from bot.workshop import open_worker, prepare_images


async def up(settings: Settings) -> None:
    """Both, until cancelled."""
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
