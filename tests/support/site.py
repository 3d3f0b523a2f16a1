"""A host with its runs, beside a `serve` that applies what they tell: for tests of the worker's side."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from redis.asyncio import Redis

from runner import keys
from runner.lease import Leases
from runner.mirror import Mirrors
from runner.protocol import Answered, Asked, EventRecord, Finished, Launch, RunKey
from runner.serve_client import RUN_HEADER, STALE, UNKNOWN, ServeClient
from runner.station import Pace, Station
from runner.streams import Streams
from runner.supervisor import LiveRun
from runner.testing import EPOCH, MemoryBackend
from tests.support.agent_container import HEAD, PLAIN, REPAIRING, AgentContainer, a_launch
from tests.support.git_server import commit, run_git
from tests.support.valkey import set_fields

ANSWER = Answered(verdict="allow", status=0, stdout="Fix the login test")
WAIT_SECONDS = 20.0
SWIFT = Pace(
    renew=0.05,
    poll=0.01,
    grace=0.2,
    keep=0.5,
    guard=5.0,
    beat=0.05,
    sweep=0.05,
    outage=5.0,
    mend=5.0,
)
IMAGES = {"default": "errand/agent:1"}


async def until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait for a condition, with a limit."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 - conditions of all kinds, none an event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true") from None


@dataclass
class FakeServe:
    """`serve`'s HTTP side for workers."""

    git_url: str
    launches: dict[str, Launch] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    outages: int = 0
    """So many requests are answered with 503."""
    commands: list[Asked] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    bundles: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    transcripts: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, launch: Launch) -> None:
        self.launches[f"/worker/runs/{launch.run.task}/{launch.run.fence}"] = launch

    def client(self) -> ServeClient:
        transport = httpx.MockTransport(self)
        return ServeClient(url="http://serve", token=SecretStr("t"), transport=transport)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if self.outages:
            self.outages -= 1
            return httpx.Response(503)
        run = "/".join(path.split("/")[:5])
        if run in self.stale:
            return httpx.Response(409, headers={RUN_HEADER: STALE})
        if run not in self.launches:
            return httpx.Response(404, headers={RUN_HEADER: UNKNOWN})
        return self._answer(run, path.removeprefix(run), request)

    def _answer(self, run: str, rest: str, request: httpx.Request) -> httpx.Response:
        match rest:
            case "":
                return httpx.Response(200, text=self.launches[run].model_dump_json())
            case "/access":
                return httpx.Response(200, json={"url": self.git_url, "header": None})
            case "/command":
                self.commands.append(Asked.model_validate_json(request.content))
                return httpx.Response(200, text=ANSWER.model_dump_json())
            case _ if rest.startswith("/pictures/"):
                content = self.pictures.get(rest.removeprefix("/pictures/"), b"")
                return httpx.Response(200 if content else 204, content=content)
            case "/bundle":
                self.bundles.append((run, dict(request.url.params), request.content))
            case _:
                self.transcripts[run] = request.content
        return httpx.Response(204)

    def transcript(self, run: RunKey) -> list[dict[str, Any]]:
        content = gzip.decompress(self.transcripts[f"/worker/runs/{run.task}/{run.fence}"])
        return [json.loads(line) for line in content.splitlines()]


@dataclass
class Site:
    """One installation: a repository, `serve`, Docker, Redis, and workers' directories."""

    root: Path
    redis: Redis
    files: Mapping[str, str] = field(default_factory=lambda: {"README.md": "hello"})
    container: AgentContainer = field(default_factory=AgentContainer)
    backend: MemoryBackend = field(default_factory=MemoryBackend)
    records: list[EventRecord] = field(default_factory=list)
    """Applied, repeated ones left out."""

    def __post_init__(self) -> None:
        git_dir = self.root / "forge" / "acme" / "web.git"
        git_dir.parent.mkdir(parents=True)
        run_git(git_dir, "init", "--bare", "--quiet", "--template=", "--initial-branch=main")
        self.base = commit(git_dir, self.files, branch="main", message="Initial commit")
        self.serve = FakeServe(git_url=f"file://{git_dir}")
        self.backend.scripts["agent"] = self._agent

    def _agent(self, key: str, to: str, msg: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        steps = list(self.container(key, to, msg))
        if key.startswith("push") and steps and steps[-1]["status"] == 0:
            run = next(run for run, role, sent in reversed(self.backend.sent) if sent == key)
            self.backend.bundles[run] = b"a bundle"
            pushed = {"kind": "push", "verdict": "accept", "reason": "", "head": HEAD}
            self.backend.emit(run, "gateway", pushed)
        return steps

    async def launch(self, launch: Launch | None = None) -> Launch:
        """What `serve` does before it queues a launch."""
        launch = launch or a_launch(agent="mender")
        self.serve.add(launch)
        await self.tell(launch.run.task, fence=launch.run.fence, state="live")
        return launch

    async def tell(self, task: str, **fields: str | int) -> None:
        await set_fields(self.redis, keys.task(task), fields)

    def station(self, host: str = "h1", **changes: Any) -> Station:
        values: dict[str, Any] = {
            "installation": "test",
            "host": host,
            "runs": self.root / host / "runs",
            "images": IMAGES,
            "backend": self.backend,
            "serve": self.serve.client(),
            "mirrors": Mirrors(self.root / host / "mirrors"),
            "leases": Leases(self.redis, host=host),
            "streams": Streams(self.redis),
            "catalogue": {agent.name: agent for agent in (PLAIN, REPAIRING)},
            "pace": SWIFT,
            "clock": lambda: EPOCH + 1,
        }
        return Station(**values | changes)

    def live(self, run: RunKey, host: str = "h1", **changes: Any) -> LiveRun:
        return LiveRun(run, self.station(host, **changes))

    @asynccontextmanager
    async def applying(self) -> AsyncIterator[None]:
        """`serve` applies events while this lasts."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.apply())
            try:
                yield
            finally:
                task.cancel()

    async def apply(self) -> None:
        while True:
            for entry_id, fields in await self.redis.xrange(keys.EVENTS):
                await self._apply(EventRecord.model_validate_json(fields[b"r"]))
                await self.redis.xdel(keys.EVENTS, entry_id)
            await asyncio.sleep(0.005)

    async def _apply(self, record: EventRecord) -> None:
        known = {(r.run, r.source, r.seq) for r in self.records}
        if (record.run, record.source, record.seq) not in known:
            self.records.append(record)
        ack = {f"ack:{record.run.fence}:{record.source}": record.seq}
        await self.tell(record.run.task, **ack)
        if isinstance(record.event, Finished):
            await self.tell(record.run.task, state="done")

    def finished(self) -> Finished:
        [last] = [r.event for r in self.records if isinstance(r.event, Finished)]
        return last

    def told(self) -> set[tuple[str, int, str]]:
        """Every event but the last, without its time."""
        return {
            (r.source, r.seq, r.event.model_dump_json())
            for r in self.records
            if not isinstance(r.event, Finished)
        }

    def lines(self, run: RunKey) -> int:
        """How many lines the agent's container has written; 0 without one."""
        trio = self.backend._trios.get(run)
        return len(trio.containers["agent"].lines) if trio and "agent" in trio.containers else 0
