"""Launch jobs from arq's queue: each lives for seconds, and only says which run to begin.

arq's worker dies whenever Redis does, so it runs in a loop of ours; runs live outside of it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from arq.connections import ArqRedis
from arq.worker import Retry, Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from runner import keys
from runner.patience import line_options
from runner.protocol import RunKey

log = structlog.get_logger()

JOB_SECONDS: Final = 20
JOBS_AT_ONCE: Final = 4
POLL_SECONDS: Final = 0.05
CONNECT_SECONDS: Final = 1
RESTART_SECONDS: Final = 1.0
EXPIRES_MS: Final = 7 * 86_400_000
# A launch that has to wait is no failed launch.
MAX_TRIES: Final = 10_000

Begin = Callable[[RunKey], Awaitable[float | None]]
"""Begins the run, or says in how many seconds to ask again."""


class Launches:
    """Call `run`; jobs are picked only while `picking`."""

    def __init__(self, *, redis_url: str, host: str, pool: str, begin: Begin) -> None:
        self._redis_url = redis_url
        self._host = host
        self._pool = pool
        self._begin = begin
        self._worker: Worker | None = None
        self._picking = True

    def pick(self, *, wanted: bool) -> None:
        """Take jobs from the queue, or leave them to other hosts."""
        self._picking = wanted
        if self._worker is not None:
            self._worker.allow_pick_jobs = wanted

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._serve_queue()
            except (RedisError, OSError) as error:
                log.warning("queue_lost", error=repr(error))
            except Exception:  # whatever it was: the runs of this host go on, and so does the queue
                log.exception("queue_broke")
            await asyncio.sleep(RESTART_SECONDS)

    async def _serve_queue(self) -> None:
        # Not arq's `create_pool`: cancelled at its first ping, it would leave a connection that nobody can close.
        pool = ArqRedis(
            ConnectionPool.from_url(
                self._redis_url,
                socket_connect_timeout=CONNECT_SECONDS,
                **line_options(self._redis_url),
            ),
            job_serializer=keys.serialize,
            job_deserializer=keys.deserialize,
        )
        worker = self._worker = self._new_worker(pool)
        worker.allow_pick_jobs = self._picking
        try:
            await worker.async_run()
        finally:
            self._worker = None
            jobs = list(worker.tasks.values())
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            with contextlib.suppress(RedisError, OSError):
                await pool.aclose(close_connection_pool=True)

    def _new_worker(self, pool: ArqRedis) -> Worker:
        job = func(
            self._launch, name=keys.LAUNCH, timeout=JOB_SECONDS, max_tries=MAX_TRIES, keep_result=0
        )
        return Worker(
            functions=[job],
            redis_pool=pool,
            queue_name=keys.run_queue(self._pool),
            poll_delay=POLL_SECONDS,
            max_jobs=JOBS_AT_ONCE,
            queue_read_limit=1_000,
            job_timeout=JOB_SECONDS,
            keep_result=0,
            expires_extra_ms=EXPIRES_MS,
            job_serializer=keys.serialize,
            job_deserializer=keys.deserialize,
            health_check_interval=5,
            health_check_key=f"er:hc:{self._host}",
            allow_abort_jobs=False,
            handle_signals=False,
            log_results=False,
        )

    async def _launch(self, ctx: dict[Any, Any], *args: Any, **_kwargs: Any) -> None:
        task, fence = args
        try:
            async with asyncio.timeout(JOB_SECONDS / 2):
                wait = await self._begin(RunKey(task=task, fence=fence))
        except TimeoutError:
            wait = RESTART_SECONDS
        if wait is not None:
            raise Retry(defer=wait)
