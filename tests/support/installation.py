"""A whole installation for a test: `errand serve` and `errand work` as processes that can be killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import docker
import httpx

from bot.states import TERMINAL
from bot.store import commands, events, runs, tasks
from bot.store.engine import Store
from bot.store.rows import CommandRow, EventRow, RunRow, TaskRow
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
Name = str
"""`serve` or `work`; `serve-2` is another one of it."""
T = TypeVar("T")


async def until(
    look: Callable[[], Awaitable[T | None]], *, seconds: float, what: str, every: float = 0.05
) -> T:
    """The first answer that is not None or False, looked for `every` so many seconds; an error that says what was waited for."""
    async with contextlib.AsyncExitStack():
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            found = await look()
            if found:
                return found
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"after {seconds:g} s still not: {what}")
            await asyncio.sleep(every)


@dataclass(slots=True)
class Installation:
    """Processes, their data, and what the database says of them."""

    root: Path
    policy: str
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    label: str = field(default_factory=lambda: f"e2e-{uuid4().hex[:12]}")
    processes: dict[Name, subprocess.Popen[bytes]] = field(default_factory=dict)
    own: dict[Name, dict[str, str]] = field(default_factory=dict)
    """Settings of one process, beside those of all."""
    docker_hosts: tuple[str | None, ...] = (None,)
    """Where containers may be; None is where Docker's client looks by itself."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.root / "d"

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "ERRAND_DATA_DIR": str(self.data),
            "ERRAND_POLICY_FILE": str(self.root / "policy.yml"),
            "ERRAND_HTTP__PORT": str(self.port),
            "ERRAND_INSTALLATION": self.label,
            "PYTHONWARNINGS": "default",
        }
        outside = {k: v for k, v in os.environ.items() if not k.startswith("ERRAND_")}
        return outside | ours | self.settings

    def start(self, name: Name, *options: str) -> None:
        """Start it; its log goes to `<name>.log`, one after the other."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "policy.yml").write_text(self.policy)
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "bot", name.partition("-")[0], *options],
                cwd=ROOT, env=self.environment | self.own.get(name, {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def up(self) -> None:
        """Start both, and wait until HTTP answers."""
        self.start("serve")
        await self.answers()
        self.start("work")

    async def answers(self) -> None:
        async def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"{self.url}/healthz")).is_success
            return False

        await until(healthy, seconds=60, what="`errand serve` answers")

    def kill(self, name: Name, *, by: signal.Signals = signal.SIGKILL) -> int:
        """End it, by kill -9 if nothing else is said; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(by)
        return process.wait(20)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bot", *args],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        store = Store(
            self.settings.get("ERRAND_DATABASE_URL") or f"sqlite+aiosqlite:///{self.data}/errand.db"
        )
        try:
            yield store
        finally:
            await store.close()

    async def tasks(self) -> list[TaskRow]:
        async with self.store() as store, store.read() as conn:
            return await tasks.listing(conn)

    async def task(self) -> TaskRow | None:
        found = await self.tasks()
        return found[0] if found else None

    async def commands(self) -> list[CommandRow]:
        """What no run has seen yet."""
        async with self.store() as store, store.read() as conn:
            listed = await tasks.listing(conn)
            return [c for t in listed for c in await commands.open_for(conn, t.id)]

    async def runs(self) -> list[RunRow]:
        async with self.store() as store, store.read() as conn:
            return [r for t in await tasks.listing(conn) for r in await runs.of_task(conn, t.id)]

    async def events(self) -> list[EventRow]:
        async with self.store() as store, store.read() as conn:
            return [e for t in await tasks.listing(conn) for e in await events.of_task(conn, t.id)]

    async def ended(self, *, seconds: float = 60) -> TaskRow:
        async def look() -> TaskRow | None:
            task = await self.task()
            return task if task and task.state in TERMINAL else None

        return await until(look, seconds=seconds, what="the task has ended")

    def containers(self, *, role: str | None = None) -> list[str]:
        """Ids of this installation's containers, running or not."""
        labels = [f"errand.installation={self.label}"]
        if role:
            labels.append(f"errand.role={role}")
        return [
            str(found["Id"])
            for client in self._engines()
            for found in client.api.containers(all=True, filters={"label": labels})
        ]

    def _engines(self) -> Iterator[docker.DockerClient]:
        for host in self.docker_hosts:
            made = docker.from_env() if host is None else docker.DockerClient(base_url=host)
            with contextlib.closing(made) as client:
                yield client

    async def cleaned_up(self) -> None:
        """No container, volume or run directory of a task is left."""

        async def look() -> bool:
            return not self.containers()

        await until(look, seconds=15, what="no container is left")
        with contextlib.closing(docker.from_env()) as client:
            volumes = client.api.volumes(filters={"label": f"errand.installation={self.label}"})
            networks = client.api.networks(filters={"label": f"errand.installation={self.label}"})
        assert volumes["Volumes"] in (None, [])
        assert not networks

        async def no_directories() -> bool:
            return not [
                *(self.data / "runs").glob("*"),
                *(self.data / "publish/quarantine").glob("*"),
            ]

        await until(no_directories, seconds=5, what="no directory of a run is left")

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-20_000:]}"
            for path in sorted(self.root.glob("*.log"))
        )

    def remove_containers(self) -> None:
        label = {"label": f"errand.installation={self.label}"}
        for client in self._engines():
            for container in client.api.containers(all=True, filters=label):
                client.api.remove_container(container["Id"], force=True, v=True)
            for volume in client.api.volumes(filters=label)["Volumes"] or []:
                client.api.remove_volume(volume["Name"])


@contextlib.asynccontextmanager
async def installation(
    root: Path, *, policy: str, settings: dict[str, str] | None = None
) -> AsyncIterator[Installation]:
    """Stopped and cleaned away however the block ends."""
    made = Installation(root=root, policy=policy, settings=settings or {})
    try:
        yield made
    finally:
        made.stop()
        made.remove_containers()
        print(made.logs())  # noqa: T201  pytest shows it where a test fails
