"""What the errands go through: real processes and containers, a Valkey of our own, and stand-ins for Slack and Linear."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Literal

from integrations.localforge.forge import LocalForge
from integrations.localforge.pulls import Pulls
from tests.chaos.balancer import Balancer
from tests.chaos.starts import Starts, client_of, counted
from tests.support.docker_host import default_image
from tests.support.dockerd import Dockerd, dockerd
from tests.support.git_server import run_git
from tests.support.installation import Installation, Name
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET
from tests.support.linear.server import LinearApi, linear_api
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, running_server
from tests.support.slack_api import BOT_TOKEN, TEAM, SlackApi, slack_api
from tests.support.slack_payloads import SIGNING_SECRET
from tests.support.valkey import ValkeyServer, binary

REPO = "acme/web"
CHANNEL = "C0WEB"
PERSON = "U0DANA"
POLICY = f"""\
version: 1
rules:
  - {{who: ["*"], where: ["slack:{CHANNEL}", "linear:ENG"], repos: [{REPO}], agents: [script], may: [start, steer, stop]}}
repos:
  {REPO}: {{forge: local, default_for: ["slack:{CHANNEL}", "linear:ENG"]}}
limits: {{wall_minutes: 15, memory: 512MB, cpus: 1, pids: 128, disk: 128MB, tasks: 6, tasks_per_person: 6,
  tasks_per_repo: 6}}
"""
FILES = {"README.md": "# web\n", ".errand.yml": "agent: script\n"}


Database = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What there is of everything."""

    database: Database = "sqlite"
    serves: int = 1
    works: int = 1
    own_dockerd: bool = False
    """The last host has a Docker daemon of its own, which is killed like everything else."""

    @property
    def kinds(self) -> list[str]:
        """What there is to be killed."""
        more = {"postgres": self.database == "postgresql", "dockerd": self.own_dockerd}
        return ["work", "serve", "redis", *(kind for kind, there in more.items() if there)]

    @property
    def serve_names(self) -> list[Name]:
        return _names("serve", self.serves)

    @property
    def work_names(self) -> list[Name]:
        return _names("work", self.works)


def _names(program: str, count: int) -> list[Name]:
    return [program, *(f"{program}-{n}" for n in range(2, count + 1))]


@dataclass(slots=True, kw_only=True)
class Site:
    plan: Plan
    errand: Installation
    slack: SlackApi
    linear: LinearApi
    valkey: ValkeyServer
    postgres: PostgresServer | None
    dockerd: Dockerd | None
    starts: Starts
    docker_away: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when to when there was no Docker daemon on the last host."""

    def is_docker_used(self) -> bool:
        """Whether an agent is at work in our own daemon."""
        if self.dockerd is None:
            return False
        with contextlib.closing(client_of(self.dockerd.url)) as client:
            return bool(client.api.containers(filters={"label": ["errand.role=agent"]}))

    def pulls(self) -> Counter[str]:
        """How many pull requests there are, by branch."""
        database = self.errand.data / "forge" / "forge.db"
        return Counter(pull.head for pull in Pulls(database).of(REPO))

    def files(self, branch: str) -> list[str]:
        """What the forge has on a branch; nothing if there is none."""
        git_dir, ref = self.errand.data / "forge" / f"{REPO}.git", f"refs/heads/{branch}"
        if not run_git(git_dir, "for-each-ref", ref):
            return []
        return run_git(git_dir, "ls-tree", "--name-only", ref).decode().splitlines()


@contextlib.asynccontextmanager
async def site(root: Path, plan: Plan) -> AsyncIterator[Site]:
    """Everything runs; what was started is stopped at the end, and its containers are removed."""
    async with contextlib.AsyncExitStack() as stack:
        valkey = await _valkey(root, stack)
        postgres = stack.enter_context(running_server()) if plan.database == "postgresql" else None
        own = stack.enter_context(dockerd(default_image())) if plan.own_dockerd else None
        slack = await stack.enter_async_context(slack_api())
        linear = await stack.enter_async_context(linear_api())
        slack.people[PERSON] = ("dana", "Dana")
        slack.standings[PERSON] = {"team_id": TEAM}
        settings = _settings(slack, linear, valkey)
        if postgres is not None:
            settings["ERRAND_DATABASE_URL"] = postgres.url(postgres.create_database())
        errand = Installation(
            root=root / "e", policy=POLICY, settings=settings, own=_own(root, plan, own),
            docker_hosts=(None, own.url) if own else (None,),
        )  # fmt: skip
        linear.webhooks.url = f"{errand.url}/linear/webhook"
        forge = LocalForge(errand.data / "forge", errand.url)
        await forge.create_repo(REPO, FILES)
        await forge.close()
        if plan.serves > 1:
            await stack.enter_async_context(_balanced(errand, plan))
        starts = stack.enter_context(counted(errand.label, errand.docker_hosts))
        stack.callback(errand.remove_containers)
        stack.callback(errand.stop)
        await _up(errand, plan)
        yield Site(
            plan=plan, errand=errand, slack=slack, linear=linear, valkey=valkey, postgres=postgres,
            dockerd=own, starts=starts,
        )  # fmt: skip


async def _valkey(root: Path, stack: contextlib.AsyncExitStack) -> ValkeyServer:
    program = binary()
    if program is None:
        raise FileNotFoundError("valkey-server")
    directory = root / "v"
    directory.mkdir(parents=True)
    made = ValkeyServer(program, directory)
    stack.push_async_callback(made.kill)
    await made.start()
    return made


def _settings(slack: SlackApi, linear: LinearApi, valkey: ValkeyServer) -> dict[str, str]:
    return {
        "ERRAND_REDIS_URL": valkey.url,
        "ERRAND_SLACK__BOT_TOKEN": BOT_TOKEN,
        "ERRAND_SLACK__SIGNING_SECRET": SIGNING_SECRET,
        "ERRAND_SLACK__API_URL": slack.url,
        "ERRAND_LINEAR__CLIENT_ID": CLIENT_ID,
        "ERRAND_LINEAR__CLIENT_SECRET": CLIENT_SECRET,
        "ERRAND_LINEAR__MODE": "client_credentials",
        "ERRAND_LINEAR__API_URL": linear.url,
        "ERRAND_LINEAR__WEBHOOK_SECRET": linear.webhooks.secret,
        "ERRAND_LINEAR__POLLING": "5",
        "ERRAND_WORK__TOKEN": "shared-by-all-of-them",
    }


def _own(root: Path, plan: Plan, own: Dockerd | None) -> dict[Name, dict[str, str]]:
    """Each `serve` has a port of its own, if there are several; each further `work` a data directory, as a host has."""
    ours: dict[Name, dict[str, str]] = {}
    if plan.serves > 1:
        ours |= {name: {"ERRAND_HTTP__PORT": str(free_port())} for name in plan.serve_names}
    ours |= {name: {"ERRAND_DATA_DIR": str(root / name)} for name in plan.work_names[1:]}
    if own is not None:
        ours.setdefault(plan.work_names[-1], {})["ERRAND_WORK__DOCKER_HOST"] = own.url
    return ours


@contextlib.asynccontextmanager
async def _balanced(errand: Installation, plan: Plan) -> AsyncIterator[None]:
    """People, workers and Linear know one address; behind it is whoever answers."""
    urls = {"ERRAND_HTTP__PUBLIC_URL": errand.url, "ERRAND_WORK__SERVE_URL": errand.url}
    errand.settings.update(urls)
    ports = [int(errand.own[name]["ERRAND_HTTP__PORT"]) for name in plan.serve_names]
    async with Balancer(ports, Random(errand.label)).listening(errand.port):  # noqa: S311  no secret
        yield


async def _up(errand: Installation, plan: Plan) -> None:
    for name in plan.serve_names:
        errand.start(name)
    await errand.answers()
    for name in plan.work_names:
        errand.start(name)
