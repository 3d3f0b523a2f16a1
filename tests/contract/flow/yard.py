"""The bus and its two ends: dispatcher and applier as they ship, and a host that does as the test says."""

from dataclasses import dataclass

from redis.asyncio import Redis

from bot.apply import Applier
from bot.bus import Bus
from bot.dispatch import Dispatcher
from bot.in_force import InForce
from runner import keys
from runner.lease import Leases, Standing
from runner.protocol import Command, Event, EventRecord, Finished, RunKey, Started
from runner.streams import Streams
from tests.contract.flow.office import Office

GRACE = 60.0
STARTED_SEQ, FINISHED_SEQ = 1, 1_000
HEAD = "b" * 40


class ScriptedHost:
    """A worker's side of the bus, without a worker: claims by the real script and writes real events."""

    def __init__(self, redis: Redis, name: str, office: Office) -> None:
        self.name = name
        self._redis = redis
        self._office = office
        self._leases = Leases(redis, host=name)
        self._streams = Streams(redis)
        self._seq = 1

    async def take(self) -> list[RunKey]:
        """Every launch that waits, claimed; those that are not ours to run are left out."""
        taken = []
        for job in await self._redis.zrange(keys.run_queue("default"), 0, -1):
            task, _, fence = job.decode().removeprefix("run:").rpartition(":")
            await self._redis.zrem(keys.run_queue("default"), job)
            await self._redis.delete(f"arq:job:{job.decode()}")
            run = RunKey(task=task, fence=int(fence))
            if await self.claim(run) in {Standing.LIVE, Standing.CANCEL}:
                taken.append(run)
        return taken

    async def claim(self, run: RunKey) -> Standing:
        return (await self._leases.claim(run)).standing

    async def announce(self, *, free: int = 1000) -> None:
        """It has room, and stays; whoever flushes Redis has to let it say so again."""
        await self._leases.announce(slots=1000, free=free, version="1")
        await self._redis.persist(keys.host(self.name))

    async def fall_silent(self, run: RunKey) -> None:
        """Its lease has run out."""
        await self._redis.delete(keys.lease(run.task))

    async def tell(self, run: RunKey, *events: Event) -> None:
        for event in events:
            await self._streams.publish(self.record(run, event))

    def record(self, run: RunKey, event: Event, *, seq: int | None = None) -> EventRecord:
        source = "worker" if isinstance(event, Started | Finished) else "agent"
        if seq is None:
            self._seq += 1
            fixed = {"started": STARTED_SEQ, "finished": FINISHED_SEQ}
            seq = fixed.get(event.kind, self._seq)
        return EventRecord.model_validate(
            {
                "run": run,
                "source": source,
                "seq": seq,
                "at": self._office.clock.now(),
                "event": event,
            }
        )

    def started(self) -> Started:
        return Started(
            host=self.name,
            image="errand/agent:1",
            image_digest="sha256:1",
            agent="script",
            base_commit="a" * 40,
        )

    async def commands(self) -> list[Command]:
        """All that were ever sent to this host."""
        entries = await self._redis.xrange(keys.commands(self.name))
        return [Command.model_validate_json(fields[b"c"]) for _, fields in entries]


@dataclass(slots=True, kw_only=True)
class Yard:
    office: Office
    bus: Bus
    redis: Redis
    dispatcher: Dispatcher
    applier: Applier
    host: ScriptedHost

    @classmethod
    def of(cls, office: Office, bus: Bus, redis: Redis) -> "Yard":
        dispatcher = Dispatcher(
            store=office.store,
            bus=bus,
            in_force=InForce(office.policy),
            channels={"fake": office.channel},
            queued=office.queued,
            spoken=office.spoken,
            commanded=office.commanded,
            grace_seconds=GRACE,
            now=office.clock.now,
            clock=office.clock.seconds,
        )
        applier = Applier(
            in_force=InForce(office.policy),
            store=office.store,
            bus=bus,
            spoken=office.spoken,
            finished=office.finished,
            queued=office.queued,
            now=office.clock.now,
        )
        return cls(
            office=office,
            bus=bus,
            redis=redis,
            dispatcher=dispatcher,
            applier=applier,
            host=ScriptedHost(redis, "h1", office),
        )

    async def starting(self, text: str = "acme/web fix it", *, author: str = "fake:dana") -> RunKey:
        """A task whose launch waits for a host."""
        await self.office.hear(text, author=author)
        await self.dispatcher.dispatch()
        task = await self.office.task()
        return RunKey(task=task.id, fence=task.fence)

    async def running(self, text: str = "acme/web fix it", *, author: str = "fake:dana") -> RunKey:
        """A task whose run has begun on the host."""
        await self.starting(text, author=author)
        [run] = await self.host.take()
        await self.tell(run, self.host.started())
        return run

    async def again(self) -> RunKey:
        """Dispatch what is queued, and let the host begin it."""
        await self.dispatcher.dispatch()
        [run] = await self.host.take()
        await self.tell(run, self.host.started())
        return run

    async def tell(self, run: RunKey, *events: Event) -> None:
        """The host tells, and it is applied."""
        await self.host.tell(run, *events)
        await self.apply()

    async def apply(self) -> None:
        await self.bus.prepare_events()
        while await self.redis.xlen(keys.EVENTS):
            await self.applier.step(pending=False)

    async def lose(self, run: RunKey) -> None:
        """The host falls silent for longer than the grace."""
        await self.host.fall_silent(run)
        await self.wait_out_the_grace()

    async def wait_out_the_grace(self) -> None:
        await self.dispatcher.reconcile()
        self.office.clock.forward(GRACE)
        await self.dispatcher.reconcile()

    async def in_redis(self, task: str) -> dict[str, str]:
        found = self.redis.hgetall(keys.task(task))
        assert not isinstance(found, dict)
        fields: dict[bytes, bytes] = await found
        return {name.decode(): value.decode() for name, value in fields.items()}


def done(*, changed: bool = True, **values: object) -> Finished:
    head = HEAD if changed else ""
    return Finished.model_validate(
        {"outcome": "done", "changed": changed, "head": head, "summary": "Fixed.", **values}
    )
