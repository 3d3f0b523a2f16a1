"""Claude Code itself, in its sandbox, against a model that says what the test wrote down."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.states import TaskState
from runner.images.build import ensure_image
from runner.protocol import Egress, Phase, Plan, StepStatus, ToolCall
from tests.e2e.conftest import Team
from tests.e2e.modelled import (
    DUMMY,
    FILE,
    a_team,
    asked,
    files,
    inspect,
    model,
    the_key_stayed_outside,
    the_record_has_the_cost,
)
from tests.support.emulate import REPO, Emulated
from tests.support.git_server import GitServer, run_git
from tests.support.installation import until
from tests.support.messages_api import Block, Call, MessagesApi, Text

__all__ = ["files", "model"]
pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(600)]

WRONG = {"file_path": FILE, "old_string": "helo", "new_string": "hallo"}
RIGHT = {"file_path": FILE, "old_string": "hallo", "new_string": "hello"}


@pytest.fixture(scope="module", autouse=True)
def _claude_image() -> None:
    ensure_image("claude-code", progress=print)


@pytest.fixture
async def team(
    tmp_path: Path, world: Emulated, git: GitServer, model: MessagesApi
) -> AsyncIterator[Team]:
    agent = "claude-code"
    async with a_team(tmp_path / "e", world=world, git=git, model=model, agent=agent) as made:
        yield made


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

    the_key_stayed_outside(model, team, inspected)
    [environment] = [a.results for a in model.asked if "ANTHROPIC_API_KEY=" in a.results][:1]
    assert f"ANTHROPIC_API_KEY={DUMMY}" in environment

    told = [row.record.event for row in await team.errand.events()]
    plans = [[(e.title, e.status) for e in p.entries] for p in told if isinstance(p, Plan)]
    assert plans[-1] == [("Mend the greeting", StepStatus.DONE)]
    tools = {(e.title, e.status) for e in told if isinstance(e, ToolCall)}
    assert {("env", StepStatus.DONE), ("Edit greet.py", StepStatus.DONE)} <= tools
    phases = [(e.name, e.status) for e in told if isinstance(e, Phase)]
    assert ("verify", StepStatus.FAILED) in phases
    assert phases.count(("repair", StepStatus.DONE)) == 1
    decisions = [e for e in told if isinstance(e, Egress)]
    assert {(e.verdict, e.rule) for e in decisions} == {("allow", "connection:anthropic")}
    assert len(decisions) == len(model.asked)
    cost = await the_record_has_the_cost(model, team)
    assert await team.hears(thread, f"${cost:.2f}", "#1")
    await team.errand.cleaned_up()
