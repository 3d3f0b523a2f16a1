"""What the errands go through: real processes and containers, a Valkey of our own, and stand-ins for Slack and Linear."""

import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

from integrations.localforge.forge import LocalForge
from integrations.localforge.pulls import Pulls
from tests.support.installation import Installation
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET
from tests.support.linear.server import LinearApi, linear_api
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


@dataclass(slots=True)
class Starts:
    """What dockerd says of agents that it started, by task."""

    by_task: Counter[str] = field(default_factory=Counter)

    # Any: what dockerd tells is raw JSON.
    def listen(self, told: Iterable[dict[str, Any]]) -> None:
        for event in told:
            self.by_task[str(event["Actor"]["Attributes"]["errand.task"])] += 1


@dataclass(slots=True, kw_only=True)
class Site:
    errand: Installation
    slack: SlackApi
    linear: LinearApi
    valkey: ValkeyServer
    starts: Starts

    def pulls(self) -> Counter[str]:
        """How many pull requests there are, by branch."""
        database = self.errand.data / "forge" / "forge.db"
        return Counter(pull.head for pull in Pulls(database).of(REPO))


@contextlib.asynccontextmanager
async def site(root: Path) -> AsyncIterator[Site]:
    """Everything runs; what was started is stopped at the end, and its containers are removed."""
    program = binary()
    if program is None:
        raise FileNotFoundError("valkey-server")
    valkey = ValkeyServer(program, _made(root / "v"))
    await valkey.start()
    async with slack_api() as slack, linear_api() as linear:
        slack.people[PERSON] = ("dana", "Dana")
        slack.standings[PERSON] = {"team_id": TEAM}
        settings = {
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
        }
        errand = Installation(root=root / "e", policy=POLICY, settings=settings)
        linear.webhooks.url = f"{errand.url}/linear/webhook"
        forge = LocalForge(errand.data / "forge", errand.url)
        await forge.create_repo(REPO, FILES)
        await forge.close()
        with _counted(errand.label) as starts:
            try:
                await errand.up()
                yield Site(errand=errand, slack=slack, linear=linear, valkey=valkey, starts=starts)
            finally:
                errand.stop()
                errand.remove_containers()
                await valkey.kill()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


@contextlib.contextmanager
def _counted(label: str) -> Iterator[Starts]:
    """What dockerd tells of the containers with that label, from now on."""
    starts, engine = Starts(), docker.from_env()
    marks = [f"errand.installation={label}", "errand.role=agent"]
    told = engine.api.events(filters={"event": "start", "label": marks}, decode=True)
    listening = threading.Thread(target=starts.listen, args=(told,), daemon=True)
    listening.start()
    try:
        yield starts
    finally:
        told.close()
        listening.join(5)
        engine.close()
