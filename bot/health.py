"""What others ask `serve` about itself: is it up, can it work, how much waits where."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from bot.bus import Bus
from bot.gauges import Gauges, Sight
from bot.intake import utc_now
from bot.metrics import Metrics
from bot.store import figures
from bot.store.engine import Store
from bot.store.errors import StoreError
from bot.store.figures import Figures
from integrations.channel import Channel

log = structlog.get_logger()
T = TypeVar("T")

DOES_NOT_ANSWER = (StoreError, RedisError, OSError, TimeoutError)

ANSWER_SECONDS = 5.0
SETTLED_SECONDS = 30.0
"""So long after its last failure a loop counts as well again."""


@dataclass(slots=True, kw_only=True)
class Pulse:
    """Which loops of this process run, and when one failed last."""

    metrics: Metrics
    now: Callable[[], datetime] = utc_now
    _running: set[str] = field(default_factory=set)
    _failed: dict[str, datetime] = field(default_factory=dict)

    def began(self, loop: str) -> None:
        self._running.add(loop)

    def failed(self, loop: str) -> None:
        self._failed[loop] = self.now()
        self.metrics.loop_failures.labels(loop).inc()

    def ill(self) -> list[str]:
        """Loops that failed just now."""
        now = self.now()
        return [loop for loop in sorted(self._running) if self._just_failed(loop, now)]

    def _just_failed(self, loop: str, now: datetime) -> bool:
        failed = self._failed.get(loop)
        return failed is not None and (now - failed).total_seconds() < SETTLED_SECONDS


@dataclass(slots=True, kw_only=True)
class Health:
    """Routes `/readyz` and `/metrics`. What they answer holds no secret and nobody's words."""

    store: Store
    bus: Bus
    metrics: Metrics
    pulse: Pulse
    channels: Mapping[str, Channel]
    forges: Collection[str]
    now: Callable[[], datetime] = utc_now
    _gauges: Gauges = field(init=False)

    def __post_init__(self) -> None:
        self._gauges = Gauges(self.metrics.registry)

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.get("/readyz")(self.ready)
        router.get("/metrics")(self.scrape)
        return router

    async def ready(self) -> JSONResponse:
        """503 where a delivery could not be stored, or nothing would come of it."""
        wrong = {
            "database": await _problem(self.store.problem()),
            "redis": await _problem(self.bus.ping()),
            "loops": ", ".join(self.pulse.ill()) or None,
        }
        status = 503 if any(wrong.values()) else 200
        return JSONResponse({part: said or "ok" for part, said in wrong.items()}, status)

    async def scrape(self) -> Response:
        """Everything for Prometheus; what does not answer is said to be down, and the rest is there."""
        self._gauges.show(
            Sight(
                now=self.now(),
                figures=await _or_none(self._figures()),
                traffic=await _or_none(self.bus.traffic()),
                destinations=(*self.channels, *self.forges),
                connected={name: one.connected for name, one in self.channels.items()},
            )
        )
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _figures(self) -> Figures:
        async with self.store.read() as conn:
            return await figures.look(conn)


async def _problem(asked: Awaitable[str | None]) -> str | None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asked
    except DOES_NOT_ANSWER as error:
        log.warning("not_ready", error=repr(error))
        return "does not answer"


async def _or_none(asked: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asked
    except DOES_NOT_ANSWER as error:
        log.warning("not_seen", error=repr(error))
        return None
