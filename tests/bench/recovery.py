"""What is killed while an errand runs, and starts again at once: until what the agent did after the kill is in the database."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from bot.states import TaskState
from bot.store import events, tasks
from tests.bench.figures import Figure, sample
from tests.bench.parts import valkey
from tests.bench.site import PERSON, installed
from tests.bench.start import ask
from tests.support.installation import Installation, Name, until
from tests.support.slack_api import SlackApi, slack_api
from tests.support.valkey import ValkeyServer

ROUNDS = 5
STEP_SECONDS = 0.2
LOOK_SECONDS = 0.01
STEPS = "\n".join([f"sleep {STEP_SECONDS}"] * 190)
"""The agent tells when each begins and ends."""


async def measure(root: Path, console: Console) -> list[Figure]:
    """An errand for each kind, for none lasts long."""
    figures = []
    async with _working(root) as (slack, site, server):
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "`work` killed": lambda: _again(site, "work"),
            "`serve` killed": lambda: _again(site, "serve"),
            "Valkey killed": lambda: _valkey_again(server),
            "everything in Redis deleted": lambda: _flushed(server),
        }
        for number, (name, strike) in enumerate(kinds.items()):
            times = await _struck(slack, site, strike, number)
            console.log(f"recovery: {name}: {', '.join(f'{ms:.0f}' for ms in times)} ms")
            figures.append(_figure(name, times))
    return figures


def _figure(name: str, times: list[float]) -> Figure:
    return Figure(
        name=f"{name} → next event applied",
        unit="ms",
        ours=sample("from the kill", times),
        note=f"started again at once, by hand; the agent does something every {STEP_SECONDS:g} s",
    )


@contextlib.asynccontextmanager
async def _working(root: Path) -> AsyncIterator[tuple[SlackApi, Installation, ValkeyServer]]:
    async with slack_api() as slack, valkey(root / "valkey") as server:
        settings = {"ERRAND_REDIS_URL": server.url}
        async with installed(root / "site", slack_url=slack.url, settings=settings) as site:
            slack.people = {PERSON: ("dana", "Dana")}
            await site.up()
            yield slack, site, server


async def _struck(
    slack: SlackApi, site: Installation, strike: Callable[[], Awaitable[None]], number: int
) -> list[float]:
    thread = await ask(slack, site, number, recipe=STEPS)
    times = []
    async with site.store() as store:

        async def told_since(moment: datetime) -> bool:
            async with store.read() as conn:
                for task in await tasks.in_states(conn, {TaskState.RUNNING}):
                    last = await events.last(conn, task.id, fence=task.fence, kind="tool")
                    here = task.conversation.thread == thread
                    if here and last is not None and last.record.at > moment:
                        return True
            return False

        asked = datetime.now(UTC)
        await until(partial(told_since, asked), seconds=60, what="it is at work")
        for _ in range(ROUNDS):
            begun, moment = time.perf_counter(), datetime.now(UTC)
            await strike()
            followed = partial(told_since, moment)
            await until(followed, seconds=60, what="it is followed", every=LOOK_SECONDS)
            times.append(1000 * (time.perf_counter() - begun))
    site.cli("task", "stop", (await site.tasks())[0].id)
    await until(lambda: _ended(site), seconds=60, what="it is stopped")
    return times


async def _ended(site: Installation) -> bool:
    task = await site.task()
    return task is not None and task.ended_at is not None


async def _again(site: Installation, name: Name) -> None:
    site.kill(name)
    site.start(name)


async def _valkey_again(server: ValkeyServer) -> None:
    await server.kill()
    await server.start()


async def _flushed(server: ValkeyServer) -> None:
    async with server.client() as client:
        await client.flushall()
