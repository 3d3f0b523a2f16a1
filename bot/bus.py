"""Redis as a bus: launches out, events in, commands out. Nothing here is the only copy of anything."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import job_key_prefix
from pydantic import BaseModel, ConfigDict
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from ulid import ULID

from bot.errors import NoRedisError
from runner import keys
from runner.patience import ANSWER_SECONDS, line_options
from runner.protocol import Command, EventRecord, RunKey

HASH_SECONDS = 7 * 86_400
PROBE_SECONDS = 60
BACKDATED = timedelta(days=1)
"""arq hands out what is due by the taker's clock: a host whose clock is behind ours takes it all the same."""
EPOCH = "er:epoch"
"""Is there as long as Redis has lost nothing."""

# A run's end must not end the next one, which may have been dispatched in between.
_RELEASE = """
local fence = redis.call('HGET', KEYS[1], 'fence')
if fence and tonumber(fence) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'state', 'done')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# In one step, so that no host claims in between; one that has read the launch before hears that the run is over.
_TAKE_BACK = (
    """
if redis.call('HEXISTS', KEYS[1], 'owner:' .. ARGV[1]) == 1 or redis.call('DEL', KEYS[2]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[3])
"""
    + _RELEASE
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """An event as it lies in the stream."""

    id: str
    record: EventRecord | None
    """None if the entry can't be read."""


class HostRow(BaseModel):
    """What a worker last said of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    slots: int
    free: int
    version: str
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is on the bus."""

    events: int
    """Not applied yet."""
    launches: int
    """Not taken yet."""
    hosts: tuple[HostRow, ...]

    @property
    def room(self) -> int:
        """How many launches more would be taken about now: free slots, and one for each host, so that none waits for us.

        What lies on the bus is taken in the order in which it came there, whatever is urgent or whose turn it is.
        """
        taking = [host for host in self.hosts if not host.draining]
        return sum(host.free + 1 for host in taking) - self.launches


def redis_settings(url: str) -> RedisSettings:
    """Arq's settings for a URL (`redis://`, `rediss://` or `unix://`), with patience for short outages."""
    settings = RedisSettings.from_dsn(url)
    settings.retry = Retry(ExponentialBackoff(cap=2, base=0.05), 10)
    settings.retry_on_error = [RedisConnectionError, RedisTimeoutError, OSError]
    settings.conn_retries = 3
    return settings


class Bus:
    """Serve's side of the bus. Every method may raise `redis.exceptions.RedisError`; all are safe twice."""

    def __init__(
        self, redis: ArqRedis, *, pool: str = "default", answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._answer_seconds = answer_seconds
        self._consumer = str(ULID())

    @classmethod
    async def open(cls, url: str) -> "Bus":
        try:
            redis = await create_pool(
                redis_settings(url),
                job_serializer=keys.serialize,
                job_deserializer=keys.deserialize,
                expires_extra_ms=HASH_SECONDS * 1000,
            )
        except (RedisError, OSError) as error:
            raise NoRedisError(f"Redis at {keys.safe_url(url)} does not answer: {error}") from error
        # arq's settings have no place for them; the connection that is there was made without.
        pool = redis.connection_pool
        pool.connection_kwargs.update(line_options(url))
        await pool.disconnect()
        pool.reset()  # type: ignore[no-untyped-call]
        return cls(redis)

    @property
    def redis(self) -> ArqRedis:
        return self._redis

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def ping(self) -> None:
        """Raise if Redis is away."""
        await self._redis.ping()

    async def check_writable(self) -> None:
        """Raise if Redis is away, full, or a replica: it answers then, but takes nothing."""
        await self._redis.set("er:probe", "1", ex=PROBE_SECONDS)

    async def has_epoch(self) -> bool:
        """False if Redis has lost its data, or is new."""
        return bool(await self._redis.exists(EPOCH))

    async def begin_epoch(self) -> None:
        """Call it when Redis has been told all that it must know."""
        await self._redis.set(EPOCH, str(ULID()))

    async def push_launch(self, run: RunKey) -> None:
        """Tell Redis of the run, then queue its launch. A second push of the same run is no second job."""
        await self.restore(run)
        await self._redis.enqueue_job(
            keys.LAUNCH,
            run.task,
            run.fence,
            _job_id=_job(run),
            _queue_name=keys.run_queue(self._pool),
            _defer_until=datetime.now(UTC) - BACKDATED,
            _expires=HASH_SECONDS,
        )

    async def restore(self, run: RunKey) -> None:
        """(Re)write the fence and state that the claim script reads."""
        await self._note(run.task, {"fence": str(run.fence), "state": "live"})
        await self._redis.persist(keys.task(run.task))

    async def disown(self, run: RunKey) -> None:
        """Say that SQL has no such run: whoever has it sets it aside."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(keys.task(run.task), f"disowned:{run.fence}", "1")
        pipe.expire(keys.task(run.task), HASH_SECONDS)
        await pipe.execute()

    async def leased_run(self, task: str) -> RunKey | None:
        """The run that holds the task's lease."""
        held = await self._redis.get(keys.lease(task))
        return None if held is None else RunKey(task=task, fence=int(held.rpartition(b":")[2]))

    async def is_known(self, run: RunKey) -> bool:
        """True if Redis has the run's fence: False means that Redis lost data, or never had it."""
        return await self._noted(run.task, "fence") == str(run.fence)

    async def has_lease(self, task: str) -> bool:
        return bool(await self._redis.exists(keys.lease(task)))

    async def has_launch(self, run: RunKey) -> bool:
        """True while the launch waits in the queue."""
        return bool(await self._redis.exists(f"{job_key_prefix}{_job(run)}"))

    async def take_back(self, run: RunKey) -> bool:
        """Take a launch from the queue that no host has taken, and end its run; False if there is none."""
        pipe = self._redis.pipeline(transaction=False)
        names = (
            keys.task(run.task),
            f"{job_key_prefix}{_job(run)}",
            keys.run_queue(self._pool),
        )
        args = (str(run.fence), str(HASH_SECONDS), _job(run))
        pipe.eval(_TAKE_BACK, len(names), *names, *args)
        return bool((await pipe.execute())[0])

    async def leased_tasks(self) -> list[str]:
        prefix = keys.lease("")
        return [k.decode()[len(prefix) :] async for k in self._redis.scan_iter(match=f"{prefix}*")]

    async def owner(self, run: RunKey) -> str | None:
        """The host that claimed the run, if any has."""
        return await self._noted(run.task, f"owner:{run.fence}")

    async def release(self, run: RunKey) -> None:
        """This run is over: its worker learns it at the next renewal of its lease. A newer run is left alone."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(_RELEASE, 1, keys.task(run.task), str(run.fence), str(HASH_SECONDS))
        await pipe.execute()

    async def acknowledge(self, run: RunKey, source: str, seq: int) -> None:
        """Note how far a source's events are applied, so that a new worker need not send them again."""
        await self._note(run.task, {f"ack:{run.fence}:{source}": str(seq)})

    async def send(self, host: str, command: Command) -> None:
        await self._redis.xadd(
            keys.commands(host), {"c": command.model_dump_json()}, maxlen=10_000, approximate=True
        )

    async def hosts(self) -> list[dict[str, object]]:
        """The records of the hosts that are alive."""
        prefix = keys.host("")
        found = [k async for k in self._redis.scan_iter(match=f"{prefix}*")]
        values = await self._redis.mget(found) if found else []
        return [json.loads(value) for value in values if value]

    async def traffic(self) -> Traffic:
        """How much is under way, and which hosts live."""
        names = [name async for name in self._redis.scan_iter(match=keys.host("*"))]
        said = await self._redis.mget(names) if names else []
        hosts = [HostRow.model_validate_json(text) for text in said if text]
        return Traffic(
            events=int(await self._redis.xlen(keys.EVENTS)),
            launches=int(await self._redis.zcard(keys.run_queue(self._pool))),
            hosts=tuple(sorted(hosts, key=lambda host: host.host)),
        )

    async def prepare_events(self) -> None:
        try:
            await self._redis.xgroup_create(keys.EVENTS, "ctl", id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def events(self, *, count: int, block_ms: int, pending: bool) -> list[Delivered]:
        """The next events: those delivered to somebody who died first, if `pending`, else new ones."""
        if pending:
            claimed = await self._redis.xautoclaim(
                keys.EVENTS, "ctl", self._consumer, min_idle_time=0, start_id="0-0", count=count
            )
            return [_delivered(entry_id, fields) for entry_id, fields in claimed[1] if fields]
        async with asyncio.timeout(block_ms / 1000 + self._answer_seconds):
            answer = await self._redis.xreadgroup(
                "ctl", self._consumer, {keys.EVENTS: ">"}, count=count, block=block_ms
            )
        return [_delivered(i, fields) for _, entries in answer or [] for i, fields in entries]

    async def applied(self, ids: Sequence[str]) -> None:
        """Forget events: call it after COMMIT only.

        The entry goes first: cut off in between, XAUTOCLAIM clears what is left; the other way round it would stay.
        """
        if ids:
            await self._redis.xdel(keys.EVENTS, *ids)
            await self._redis.xack(keys.EVENTS, "ctl", *ids)

    async def _note(self, task: str, fields: Mapping[str, str]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(keys.task(task), mapping=dict(fields))
        await pipe.execute()

    async def _noted(self, task: str, field: str) -> str | None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(keys.task(task), field)
        value = (await pipe.execute())[0]
        return value.decode() if isinstance(value, bytes) else value


def _job(run: RunKey) -> str:
    return f"run:{run}"


def _delivered(entry_id: bytes, fields: dict[bytes, bytes]) -> Delivered:
    try:
        record = EventRecord.model_validate_json(fields[b"r"])
    except (KeyError, ValueError):
        record = None
    return Delivered(entry_id.decode(), record)
