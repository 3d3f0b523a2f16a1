"""`errand work`: takes launches while it has room, and looks after every run of this host."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis

from runner.errors import RunnerError
from runner.identity import host_name, sole_worker
from runner.launches import Launches
from runner.lease import GONE, Leases, Standing
from runner.meter import Meter
from runner.mirror import Mirrors
from runner.orphans import Orphans
from runner.patience import line_options
from runner.protocol import RunKey, Runtime
from runner.rundir import known_runs
from runner.sandbox import SandboxBackend
from runner.serve_client import ServeClient
from runner.station import Pace, Station
from runner.streams import Streams
from runner.supervisor import LiveRun
from runner.tracing import NoTracing, Tracing

log = structlog.get_logger()

ASK_AGAIN_SECONDS: Final = 1.0
FAREWELL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    data_dir: Path
    installation: str
    redis_url: str
    serve_url: str
    token: SecretStr
    images: Mapping[str, str]
    """Tags or digests by the names that `.errand.yml` and the catalogue use; `default` must be there."""
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    """Credentials that gateways add, by their names in the policy."""
    slots: int = 4
    runtime: Runtime = "runc"
    pool: str = "default"
    version: str = "0"
    drain: bool = False
    """Take nothing new, and end when what is here has ended."""
    pace: Pace = field(default_factory=Pace)


class Worker:
    """One per host and data directory. Cancel `run` to end it: containers go on, and the next worker adopts them."""

    def __init__(
        self,
        config: WorkerConfig,
        backend: SandboxBackend,
        *,
        meter: Meter | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._config = config
        self._backend = backend
        self._meter = meter or Meter()
        self._tracing = tracing or NoTracing()

    async def run(self) -> None:
        """Until cancelled, or drained.

        Raises:
            DataDirTakenError: another worker uses the data directory.
            SandboxStartError: Docker does not answer at the start.
        """
        config = self._config
        host = await asyncio.to_thread(host_name, config.data_dir)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(sole_worker(config.data_dir))
            redis = Redis.from_url(config.redis_url, **line_options(config.redis_url))
            stack.push_async_callback(redis.aclose, close_connection_pool=True)
            serve = ServeClient(url=config.serve_url, token=config.token)
            stack.push_async_callback(serve.close)
            await Shift(config, self._station(host, redis, serve)).run()

    def _station(self, host: str, redis: Redis, serve: ServeClient) -> Station:
        config = self._config
        return Station(
            installation=config.installation,
            host=host,
            runs=config.data_dir.absolute() / "runs",
            images=config.images,
            secrets=config.secrets,
            backend=self._backend,
            serve=serve,
            mirrors=Mirrors(config.data_dir / "mirrors"),
            leases=Leases(redis, host=host, meter=self._meter),
            streams=Streams(redis),
            runtime=config.runtime,
            pace=config.pace,
            meter=self._meter,
            tracing=self._tracing,
        )


class Shift:
    """A worker at work."""

    def __init__(self, config: WorkerConfig, station: Station) -> None:
        self._station = station
        self._slots = config.slots
        self._version = config.version
        self._draining = config.drain
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        """There is more or less room than was announced."""
        self._runs: dict[RunKey, LiveRun] = {}
        self._tasks = asyncio.TaskGroup()
        self._orphans = Orphans(station)
        self._launches = Launches(
            redis_url=config.redis_url, host=station.host, pool=config.pool, begin=self._begin
        )

    async def run(self) -> None:
        try:
            async with self._tasks:
                await self._sweep()
                loops = [self._pass_commands(), self._keep_sweeping(), self._beat()]
                if not self._draining:
                    loops.append(self._launches.run())
                running = [self._tasks.create_task(loop) for loop in loops]
                if self._draining:
                    await self._until_empty()
                    for loop in running:
                        loop.cancel()
        finally:
            # Containers and leases stay: whoever comes next goes on.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._station.leases.withdraw()

    async def _until_empty(self) -> None:
        log.info("draining", runs=len(self._runs))
        while self._runs:
            self._changed.clear()
            await self._changed.wait()
        log.info("drained")

    @property
    def _free(self) -> int:
        return 0 if self._draining else max(0, self._slots - len(self._runs))

    async def _begin(self, run: RunKey) -> float | None:
        """A launch: delivered twice, or to a second host, it starts no second run."""
        if run in self._runs:
            return None
        if not self._free:
            return ASK_AGAIN_SECONDS
        began = time.monotonic()
        with self._station.tracing.span("launch", task=run.task, fence=run.fence):
            standing = (await self._station.leases.claim(run)).standing
            if standing is Standing.UNKNOWN:
                return ASK_AGAIN_SECONDS
            if standing not in GONE:
                self._start(run)
        self._station.meter.launch(standing)
        seconds = round(time.monotonic() - began, 3)
        log.info("launch_taken", run=str(run), standing=standing, seconds=seconds)
        return None

    def _start(self, run: RunKey) -> None:
        if run in self._runs:
            return
        live = self._runs[run] = LiveRun(run, self._station)
        self._news.set()
        self._tasks.create_task(self._attend(live))
        self._launches.pick(wanted=self._free > 0)

    async def _attend(self, live: LiveRun) -> None:
        try:
            for step in (live.follow, partial(live.give_up, "Something unforeseen went wrong.")):
                try:
                    await step()
                except (
                    Exception
                ):  # whatever it was: the run is given up with a word, and the others go on
                    log.exception("run_broke", run=str(live.run))
                else:
                    return
        finally:
            del self._runs[live.run]
            self._changed.set()
            self._news.set()
            self._launches.pick(wanted=self._free > 0)

    async def _pass_commands(self) -> None:
        async for command in self._station.streams.commands(self._station.host):
            if live := self._runs.get(command.run):
                live.command(command)

    async def _sweep(self) -> None:
        """Go on with, or clean up, whatever bears this host's name: in Docker, in Redis or on disk."""
        station = self._station
        found = await station.backend.leftovers(
            installation=station.installation, host=station.host
        )
        on_disk = await asyncio.to_thread(known_runs, station.runs)
        for run in {leftover.run for leftover in found} | on_disk | await station.leases.mine():
            self._start(run)
        await self._orphans.look()

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._station.pace.sweep)
            try:
                await self._sweep()
            except (RunnerError, OSError) as error:
                log.warning("sweep_failed", error=repr(error))

    async def _beat(self) -> None:
        while True:
            self._news.clear()
            self._station.meter.slots(slots=self._slots, free=self._free, draining=self._draining)
            await self._station.leases.announce(
                slots=self._slots,
                free=self._free,
                version=self._version,
                draining=self._draining,
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._station.pace.beat):
                    await self._news.wait()
