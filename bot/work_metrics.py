"""What Prometheus is told of `work`."""

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from typing_extensions import override

from bot import buckets
from bot.errors import SetupError
from bot.settings import WorkSettings
from runner.meter import Meter


class WorkMetrics(Meter):
    """Counts in a registry of its own, or in `serve`'s where both are one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        gauge = partial(Gauge, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._slots = gauge("errand_work_slots", "Runs that this host takes at once")
        self._free = gauge("errand_work_free", "How many more it would take now")
        self._draining = gauge("errand_work_draining", "1 while it takes nothing new")
        self._launches = counter("errand_work_launches", "Launches taken", ["standing"])
        self._runs = counter("errand_work_runs", "Runs that came to their end here", ["outcome"])
        self._run_seconds = histogram(
            "errand_work_run_seconds", "From their start to their end", buckets=buckets.RUN
        )
        self._sandbox_seconds = histogram(
            "errand_work_sandbox_start_seconds", "Until a sandbox is up", buckets=buckets.QUICK
        )
        self._renewals = counter(
            "errand_work_renewals_failed", "Claims of a lease that Redis did not answer"
        )
        self._aside = counter(
            "errand_work_set_aside", "Sandboxes set aside, for a person to decide"
        )

    @override
    def slots(self, *, slots: int, free: int, draining: bool) -> None:
        self._slots.set(slots)
        self._free.set(free)
        self._draining.set(draining)

    @override
    def launch(self, standing: str) -> None:
        self._launches.labels(standing).inc()

    @override
    def sandbox_started(self, seconds: float) -> None:
        self._sandbox_seconds.observe(seconds)

    @override
    def renewal_failed(self) -> None:
        self._renewals.inc()

    @override
    def run_ended(self, outcome: str, *, seconds: float) -> None:
        self._runs.labels(outcome).inc()
        self._run_seconds.observe(seconds)

    @override
    def set_aside(self) -> None:
        self._aside.inc()


@contextlib.contextmanager
def answering(settings: WorkSettings, registry: CollectorRegistry) -> Iterator[None]:
    """Answer Prometheus on the port of the settings, if they name one, for as long as the block runs.

    Raises:
        SetupError: the port is taken, or the address is not ours.
    """
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = start_http_server(
            settings.metrics_port, addr=settings.metrics_host, registry=registry
        )
    except OSError as error:
        place = f"{settings.metrics_host}:{settings.metrics_port}"
        number = error.errno or 0
        reason = os.strerror(number) if number in errno.errorcode else error.strerror
        raise SetupError(
            f"can't listen on {place} ({reason}): set another ERRAND_WORK__METRICS_PORT"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
