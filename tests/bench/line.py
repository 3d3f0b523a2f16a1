"""A long line: what starting one errand, and looking at all of them, costs while thousands wait."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from bot import overview
from bot.bus import Bus
from bot.dispatch import Dispatcher
from bot.in_force import InForce
from bot.intake import Signal
from bot.settings import load_settings
from bot.states import TaskState
from bot.store import tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from runner import keys
from runner.lease import Leases
from runner.protocol import RunKey
from tests.bench.figures import Aim, Figure, at_most, sample
from tests.bench.parts import parts
from tests.support.builders import POLICY, a_conversation, a_task
from tests.support.installation import until

LINES = (0, 1_000, 10_000)
EACH = 5
"""Errands that each person waits for."""
STARTS = 40
LOOKS = 40
MOST_MS = 100.0
LOOK_SECONDS = 0.001


@dataclass(slots=True, kw_only=True)
class _Yard:
    store: Store
    bus: Bus
    queued: Signal
    dispatcher: Dispatcher
    started: int = 0


async def measure(root: Path, console: Console) -> list[Figure]:
    starts, looks = [], []
    for waiting in LINES:
        async with _yard(root / str(waiting)) as yard:
            await _fill(yard.store, waiting)
            starts.append(await _starts(yard, waiting))
            looks += await _looks(yard, waiting)
        console.log(f"line: {waiting} waiting")
    first, *longer = starts
    return [first, *(_beside(first, figure) for figure in longer), *looks]


@contextlib.asynccontextmanager
async def _yard(root: Path) -> AsyncIterator[_Yard]:
    """A database, a Valkey and the dispatcher as they ship; a host has room, and takes nothing."""
    async with parts(root) as (store, valkey):
        bus, queued = await Bus.open(valkey.url), Signal()
        await Leases(bus.redis, host="h").announce(slots=1_000_000, free=1_000_000, version="1")
        await bus.redis.persist(keys.host("h"))
        dispatcher = Dispatcher(
            store=store, bus=bus, in_force=InForce(POLICY), channels={}, queued=queued, spoken=Signal(), commanded=Signal()
        )  # fmt: skip
        dispatching = asyncio.create_task(dispatcher.run())
        try:
            yield _Yard(store=store, bus=bus, queued=queued, dispatcher=dispatcher)
        finally:
            dispatching.cancel()
            await bus.close()


async def _fill(store: Store, waiting: int) -> None:
    """A repository has as much at work as it may, and many people wait for it."""
    most = POLICY.limits.tasks_per_repo
    at_work = [_row(f"w{n:05}", n, who=f"fake:w{n}", state=TaskState.RUNNING) for n in range(most)]
    line = [_row(f"q{n:05}", n, who=f"fake:q{n // EACH}") for n in range(waiting)]
    async with store.begin() as tx:
        for task in [*at_work, *line]:
            await tasks.insert(tx, task)


def _row(name: str, n: int, *, who: str, state: TaskState = TaskState.QUEUED) -> TaskRow:
    at = datetime.now(UTC) - timedelta(hours=3) + timedelta(milliseconds=n)
    return a_task(
        id=f"01line{name}", origin=f"fake:{name}", state=state, requester=who, fence=int(state is TaskState.RUNNING),
        conversation=a_conversation(thread=name), created_at=at, changed_at=at,
    )  # fmt: skip


async def _starts(yard: _Yard, waiting: int) -> Figure:
    """Somebody else asks, again and again; the errand before has ended."""
    taken = []
    for n in range(STARTS):
        task = _row(f"n{n:05}", n, who=f"fake:p{n}").model_copy(update={"repo": "acme/api"})
        begun = time.perf_counter()
        async with yard.store.begin() as tx:
            await tasks.insert(tx, task)
        yard.queued.set()
        run = RunKey(task=task.id, fence=1)
        launched = partial(yard.bus.has_launch, run)
        await until(launched, seconds=60, what="it is launched", every=LOOK_SECONDS)
        taken.append(1000 * (time.perf_counter() - begun))
        async with yard.store.begin() as tx:
            now = datetime.now(UTC)
            await tasks.move(
                tx, task.id, to=TaskState.FAILED, old=[TaskState.STARTING], changed_at=now
            )
    return Figure(
        name=f"queued → launched, {waiting:,} waiting",
        unit="ms",
        ours=sample("from the row's insert to its job in Redis", taken),
        note=f"looked for every {1000 * LOOK_SECONDS:g} ms",
    )


def _beside(alone: Figure, figure: Figure) -> Figure:
    """A long line against none, in the same session."""
    changes = {"baseline": alone.ours, "ratio": round(figure.ours.p50 / alone.ours.p50, 2)}
    return figure.model_copy(update=changes)


async def _looks(yard: _Yard, waiting: int) -> list[Figure]:
    if waiting != max(LINES):
        return []
    settings = load_settings()
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "one round of the dispatcher": yard.dispatcher.dispatch,
        "`task list`": lambda: _listed(yard.store),
        "status page and `top`": lambda: overview.look(yard.store, settings, now=datetime.now(UTC)),
    }
    return [
        Figure(
            name=f"{name}, {waiting:,} waiting",
            unit="ms",
            ours=sample("per look", times),
            aims=(_quick(times),),
        )
        for name, times in [(name, await _times(look)) for name, look in ways.items()]
    ]


async def _listed(store: Store) -> list[TaskRow]:
    async with store.read() as conn:
        return await tasks.listing(conn, limit=30)


async def _times(look: Callable[[], Awaitable[object]]) -> list[float]:
    times = []
    for _ in range(LOOKS):
        begun = time.perf_counter()
        await look()
        times.append(1000 * (time.perf_counter() - begun))
    return times


def _quick(times: list[float]) -> Aim:
    return at_most(f"p95 ≤ {MOST_MS:g} ms", sample("", times).p95, MOST_MS)
