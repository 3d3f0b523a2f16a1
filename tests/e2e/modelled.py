"""A team whose repository may use a model: what the tests of real agents have in common."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import docker
import pytest

from runner.protocol import Usage
from tests.e2e.conftest import Team, slack_and_github
from tests.support.emulate import REPO, Emulated
from tests.support.git_server import GitServer
from tests.support.installation import installation
from tests.support.messages_api import MessagesApi, bridge_address, messages_api

KEY = "sk-real-canary-key"
DUMMY = "held-by-the-gateway"
POLICY = """\
version: 1
rules:
  - {{who: ["*"], where: ["slack:{channel}"], repos: [{repo}], agents: [{agent}], may: [start, steer, stop]}}
repos:
  {repo}:
    forge: github
    default_for: ["slack:{channel}"]
    connections: [anthropic]
connections:
  anthropic: {{kind: llm, upstream: "{upstream}", private: true, secret: ANTHROPIC_API_KEY, models: ["claude-*"]}}
prices: [{{model: "*", input: 4, output: 20}}]
limits: {{wall_minutes: 5, cost_usd: {cost_usd}, memory: 2GB, cpus: 2, pids: 256, disk: 512MB}}
"""
FILES = {"greet.py": "print('helo')\n", ".errand.yml": "verify: grep -q hello greet.py\n"}
FILE = "/workspace/greet.py"


@pytest.fixture
def files() -> dict[str, str]:
    return FILES


@pytest.fixture
def model() -> Iterator[MessagesApi]:
    with messages_api(bridge_address()) as api:
        yield api


@contextlib.asynccontextmanager
async def a_team(
    root: Path,
    *,
    world: Emulated,
    git: GitServer,
    model: MessagesApi,
    agent: str,
    cost_usd: float = 5,
) -> AsyncIterator[Team]:
    policy = POLICY.format(
        channel=world.slack_channel, repo=REPO, upstream=model.url, agent=agent, cost_usd=cost_usd
    )
    settings = slack_and_github(world, git) | {"ERRAND_SECRETS__ANTHROPIC_API_KEY": KEY}
    async with installation(root, policy=policy, settings=settings) as errand:
        await errand.up()
        yield Team(errand=errand, world=world, git=git)


def asked(model: MessagesApi) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return bool(model.asked)

    return look


def inspect(team: Team) -> list[str]:
    """All that Docker tells of the run's containers, and what runs in them."""
    with contextlib.closing(docker.from_env()) as client:
        return [
            json.dumps([client.api.inspect_container(c), client.api.top(c), str(client.api.logs(c))])
            for c in team.errand.containers()
        ]  # fmt: skip


def files_with(text: str, root: Path) -> list[Path]:
    def content(path: Path) -> bytes:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data

    return [p for p in root.rglob("*") if p.is_file() and text.encode() in content(p)]


def the_key_stayed_outside(model: MessagesApi, team: Team, inspected: list[str]) -> None:
    """It is added on the wire, and known nowhere else."""
    assert {a.headers["x-api-key"] for a in model.asked} == {KEY}
    assert not [a for a in model.asked if DUMMY in str(a.headers)]
    assert not [a for a in model.asked if KEY in json.dumps(a.body)]
    assert len(inspected) == 3
    assert not [text for text in inspected if KEY in text]
    assert files_with(KEY, team.errand.root) == []


async def the_record_has_the_cost(model: MessagesApi, team: Team) -> float:
    """What the stand-in said in its answers is what the task cost: in its events, and on the command line."""
    told = [row.record.event for row in await team.errand.events()]
    used = [e for e in told if isinstance(e, Usage) and e.metered][-1]
    calls = [a for a in model.asked if "count_tokens" not in a.path]
    output = sum(20 if a.body.get("stream") else 1 for a in calls)
    cost = (1000 * 4 * len(calls) + 20 * output) / 1_000_000
    assert (used.input_tokens, used.output_tokens) == (1000 * len(calls), output)
    assert used.cost_usd == used.counted_usd == pytest.approx(cost, abs=1e-5)
    [run] = await team.errand.runs()
    assert run.view["cost_usd"] == used.cost_usd
    task = await team.errand.task()
    assert task is not None
    shown = team.errand.cli("task", "show", task.id).stdout
    assert f"${cost:.2f}" in shown, shown
    assert f"{1000 * len(calls):,} in" in shown, shown
    return cost
