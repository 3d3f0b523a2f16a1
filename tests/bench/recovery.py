"""What is killed while an errand runs, and starts again at once: until what the agent did after the kill is in the database."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from bot.states import MAX_ATTEMPTS, TaskState
from bot.store import events, tasks
from bot.store.errors import StoreError
from tests.bench.figures import Figure, sample
from tests.bench.parts import valkey
from tests.bench.site import PERSON, installed
from tests.bench.start import ask
from tests.support.docker_host import default_image
from tests.support.dockerd import Dockerd, dockerd
from tests.support.installation import Installation, Name, until
from tests.support.postgres import PostgresServer, running_server
from tests.support.slack_api import SlackApi, slack_api
from tests.support.valkey import ValkeyServer

Strike = Callable[[], Awaitable[None]]
ROUNDS = 5
DOCKER_ERRANDS = 3
STEP_SECONDS = 0.2
LOOK_SECONDS = 0.01
STEPS = "\n".join([f"sleep {STEP_SECONDS}"] * 190)
"""The agent tells when each begins and ends."""


async def measure(root: Path, console: Console) -> list[Figure]:
    """An errand for each kind, for none lasts long."""
    figures = await _of_processes(root / "processes", console)
    figures += await _of_postgres(root / "postgres", console)
    if os.geteuid() or shutil.which("dockerd") is None:
        console.log("recovery: dockerd is not killed: one of our own needs root, and `dockerd`")
        return figures
    return figures + await _of_docker(root / "docker", console)


async def _of_processes(root: Path, console: Console) -> list[Figure]:
    async with _working(root) as (slack, site, server):
        kinds: dict[str, Strike] = {
            "`work` killed": lambda: _again(site, "work"),
            "`serve` killed": lambda: _again(site, "serve"),
            "Valkey killed": lambda: _valkey_again(server),
            "everything in Redis deleted": lambda: _flushed(server),
        }
        return [
            _figure(name, await _struck(slack, site, strike, number), console)
            for number, (name, strike) in enumerate(kinds.items())
        ]


async def _of_postgres(root: Path, console: Console) -> list[Figure]:
    with running_server() as postgres:
        settings = {"ERRAND_DATABASE_URL": postgres.url(postgres.create_database())}
        async with _working(root, settings) as (slack, site, _):
            times = await _struck(slack, site, lambda: _postgres_again(postgres), 0)
            return [_figure("PostgreSQL killed", times, console)]


async def _of_docker(root: Path, console: Console) -> list[Figure]:
    """Several errands: a loss too many, and one fails."""
    with dockerd(default_image()) as daemon:
        async with _working(root, {"ERRAND_WORK__DOCKER_HOST": daemon.url}) as (slack, site, _):
            site.docker_hosts = (daemon.url,)
            times = []
            for number in range(DOCKER_ERRANDS):
                strike = partial(_docker_again, daemon)
                times += await _struck(
                    slack, site, strike, number, rounds=MAX_ATTEMPTS - 1, anew=True
                )
            more = "; its containers end with it, so the errand begins anew, under the next number"
            return [_figure("its Docker daemon killed", times, console, more=more)]


def _figure(name: str, times: list[float], console: Console, *, more: str = "") -> Figure:
    console.log(f"recovery: {name}: {', '.join(f'{ms:.0f}' for ms in times)} ms")
    return Figure(
        name=f"{name} → next event applied",
        unit="ms",
        ours=sample("from the kill", times),
        note="started again at once, by hand; the agent does something every "
        f"{STEP_SECONDS:g} s{more}",
    )


@contextlib.asynccontextmanager
async def _working(
    root: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[SlackApi, Installation, ValkeyServer]]:
    async with slack_api() as slack, valkey(root / "valkey") as server:
        given = {"ERRAND_REDIS_URL": server.url} | dict(settings or {})
        async with installed(root / "site", slack_url=slack.url, settings=given) as site:
            slack.people = {PERSON: ("dana", "Dana")}
            await site.up()
            yield slack, site, server


async def _struck(
    slack: SlackApi,
    site: Installation,
    strike: Strike,
    number: int,
    *,
    rounds: int = ROUNDS,
    anew: bool = False,
) -> list[float]:
    """Milliseconds until the errand goes on; `anew`: under the next number."""
    thread = await ask(slack, site, number, recipe=STEPS)
    times = []
    async with site.store() as store:

        async def told_since(moment: datetime, *, after: int = 0) -> int:
            """The number of its run; 0 if nothing was told."""
            with contextlib.suppress(StoreError):  # a database that was killed
                async with store.read() as conn:
                    for task in await tasks.in_states(conn, {TaskState.RUNNING}):
                        last = await events.last(conn, task.id, fence=task.fence, kind="tool")
                        here = task.conversation.thread == thread and task.fence > after
                        if here and last is not None and last.record.at > moment:
                            return task.fence
            return 0

        asked = datetime.now(UTC)
        fence = await until(partial(told_since, asked), seconds=60, what="it is at work")
        for _ in range(rounds):
            begun, moment = time.perf_counter(), datetime.now(UTC)
            await strike()
            followed = partial(told_since, moment, after=fence if anew else 0)
            fence = await until(followed, seconds=120, what="it goes on", every=LOOK_SECONDS)
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


async def _postgres_again(server: PostgresServer) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


async def _docker_again(daemon: Dockerd) -> None:
    await asyncio.to_thread(daemon.kill)
    await asyncio.to_thread(daemon.start)
