"""The composition root of `work`: apart from `serve`'s, so that a worker that was killed is back in a second."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry

from bot.settings import Settings, worker_token
from bot.threads import in_own_thread
from bot.tracing import open_tracing
from bot.valkey import open_redis
from bot.work_metrics import WorkMetrics, answering
from runner.docker.backend import DockerBackend
from runner.images.build import ensure_image
from runner.images.context import IMAGES, image_tag
from runner.meter import Meter
from runner.tracing import Tracing
from runner.worker import Worker, WorkerConfig

log = structlog.get_logger()


async def work(settings: Settings, *, drain: bool = False) -> None:
    """Launches and follows runs on this Docker host; `drain` takes nothing new, and returns when all has ended."""
    await prepare_images(settings)
    async with (
        open_redis(settings) as redis_url,
        open_worker(settings, redis_url=redis_url, drain=drain) as worker,
    ):
        log.info("working", serve=settings.serve_url, slots=settings.work.slots, drain=drain)
        await worker.run()


@asynccontextmanager
async def open_worker(
    settings: Settings,
    *,
    redis_url: str,
    drain: bool = False,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Worker]:
    meter = WorkMetrics(registry)
    async with open_tracing(settings.otel, service="errand-work") as tracing:
        with answering(settings.work, meter.registry), closing(open_sandboxes(settings)) as backend:
            yield _worker(settings, backend, redis_url, drain=drain, meter=meter, tracing=tracing)


def _worker(
    settings: Settings,
    backend: DockerBackend,
    redis_url: str,
    *,
    drain: bool,
    meter: Meter,
    tracing: Tracing,
) -> Worker:
    config = WorkerConfig(
        redis_url=redis_url,
        serve_url=settings.serve_url,
        token=worker_token(settings),
        data_dir=settings.data_dir,
        installation=settings.installation,
        images={name: image_tag(name) for name in IMAGES},
        secrets=settings.secrets,
        slots=settings.work.slots,
        runtime=settings.work.runtime,
        version=version("errand"),
        drain=drain,
    )
    return Worker(config, backend, meter=meter, tracing=tracing)


async def prepare_images(
    settings: Settings,
    *,
    progress: Callable[[str], None] = lambda line: log.info("image", step=line),
) -> None:
    """Build the default image if this version's is not there yet: minutes the first time, then nothing."""
    await in_own_thread(partial(ensure_image, progress=progress, docker_host=settings.docker_host))


def open_sandboxes(settings: Settings) -> DockerBackend:
    return DockerBackend(settings.docker_host, runtime=settings.work.runtime)
