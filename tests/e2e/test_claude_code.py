"""Claude Code itself, in its sandbox, against a model that says what the test wrote down."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import docker
import pytest

from bot.states import TaskState
from runner.images.build import ensure_image
from runner.protocol import Egress, Phase, Plan, StepStatus, ToolCall, Usage
from tests.e2e.conftest import Team, slack_and_github
from tests.support.emulate import REPO, Emulated
from tests.support.git_server import GitServer, git_server, run_git
from tests.support.installation import installation, until
from tests.support.messages_api import Block, Call, MessagesApi, Text, bridge_address, messages_api

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(600)]

KEY = "sk-real-canary-key"
DUMMY = "held-by-the-gateway"
POLICY = """\
version: 1
rules:
  - {{who: ["*"], where: ["slack:{channel}"], repos: [{repo}], agents: [claude-code], may: [start, steer, stop]}}
repos:
  {repo}:
    forge: github
    default_for: ["slack:{channel}"]
    connections: [{connections}]
connections:
  anthropic: {{kind: llm, upstream: "{upstream}", private: true, secret: ANTHROPIC_API_KEY, models: ["claude-*"]}}
limits: {{wall_minutes: 5, memory: 2GB, cpus: 2, pids: 256, disk: 512MB}}
"""
FILES = {"greet.py": "print('helo')\n", ".errand.yml": "verify: grep -q hello greet.py\n"}
FILE = "/workspace/greet.py"
WRONG = {"file_path": FILE, "old_string": "helo", "new_string": "hallo"}
RIGHT = {"file_path": FILE, "old_string": "hallo", "new_string": "hello"}


@pytest.fixture(scope="module", autouse=True)
def _claude_image() -> None:
    ensure_image("claude-code", progress=print)


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "git") as server:
        server.create(REPO, FILES)
        yield server


@pytest.fixture
def model() -> Iterator[MessagesApi]:
    with messages_api(bridge_address()) as api:
        yield api


@pytest.fixture
async def team(
    tmp_path: Path, world: Emulated, git: GitServer, model: MessagesApi
) -> AsyncIterator[Team]:
    git.create("acme/other", FILES)
    policy = POLICY.format(
        channel=world.slack_channel, repo=REPO, upstream=model.url, connections="anthropic"
    )
    settings = slack_and_github(world, git) | {"ERRAND_SECRETS__ANTHROPIC_API_KEY": KEY}
    async with installation(tmp_path / "e", policy=policy, settings=settings) as errand:
        await errand.up()
        yield Team(errand=errand, world=world, git=git)


def work(*, mended: bool) -> list[tuple[Block, ...]]:
    """What the model says until its first turn ends."""
    task = {"subject": "Mend the greeting", "description": "in greet.py", "activeForm": "Mending"}
    return [
        (Text("I will plan, and look."), Call("TaskCreate", task)),
        (Call("TaskUpdate", {"taskId": "1", "status": "in_progress"}),),
        (Call("Bash", {"command": "env", "description": "Look around"}),),
        (Call("Read", {"file_path": FILE}),),
        (Call("Edit", RIGHT | {"old_string": "helo"} if mended else WRONG),),
        (Call("TaskUpdate", {"taskId": "1", "status": "completed"}),),
        (Text("The greeting is mended."),),
    ]


async def test_claude_code_works_without_a_credential_and_repairs_what_the_checks_find(
    team: Team, model: MessagesApi
) -> None:
    model.answers.extend([*work(mended=False), (Call("Edit", RIGHT),), (Text("Now it is."),)])
    model.go_on.clear()
    thread = await team.mention("The greeting is misspelt.")
    await until(asked(model), seconds=60, what="the model was asked")
    inspected = inspect(team)
    model.go_on.set()
    task = await team.ends(thread, seconds=90)

    assert task.state is TaskState.SUCCEEDED, task.reason
    [pull] = await team.pulls()
    assert pull["head"]["ref"] == task.branch
    shown = run_git(team.git.git_dir(REPO), "show", f"{task.branch}:greet.py")
    assert shown == b"print('hello')\n"

    # The real key is added outside of the container, and known nowhere else.
    assert {a.headers["x-api-key"] for a in model.asked} == {KEY}
    assert not [a for a in model.asked if DUMMY in str(a.headers)]
    assert not [a for a in model.asked if KEY in json.dumps(a.body)]
    [environment] = [a.results for a in model.asked if "ANTHROPIC_API_KEY=" in a.results][:1]
    assert f"ANTHROPIC_API_KEY={DUMMY}" in environment
    assert len(inspected) == 3
    assert not [text for text in inspected if KEY in text]
    assert files_with(KEY, team.errand.root) == []

    told = [row.record.event for row in await team.errand.events()]
    plans = [[(e.title, e.status) for e in p.entries] for p in told if isinstance(p, Plan)]
    assert plans[-1] == [("Mend the greeting", StepStatus.DONE)]
    tools = {(e.title, e.status) for e in told if isinstance(e, ToolCall)}
    assert {("env", StepStatus.DONE), ("Edit greet.py", StepStatus.DONE)} <= tools
    phases = [(e.name, e.status) for e in told if isinstance(e, Phase)]
    assert ("verify", StepStatus.FAILED) in phases
    assert phases.count(("repair", StepStatus.DONE)) == 1
    used = [e for e in told if isinstance(e, Usage)][-1]
    assert used.input_tokens
    assert used.output_tokens
    assert used.cost_usd
    decisions = [e for e in told if isinstance(e, Egress)]
    assert {(e.verdict, e.rule) for e in decisions} == {("allow", "connection:anthropic")}
    assert len(decisions) == len(model.asked)
    await team.errand.cleaned_up()


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
