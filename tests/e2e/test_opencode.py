"""OpenCode itself, in its sandbox, against a model that says what the test wrote down; and the end of its budget."""

from pathlib import Path

import pytest

from bot.states import TaskState
from runner.images.build import ensure_image
from runner.protocol import Egress, Phase, StepStatus, ToolCall
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
from tests.support.messages_api import Call, MessagesApi, Text

__all__ = ["files", "model"]
pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(600)]

READ = Call("read", {"filePath": FILE})
WRONG = Call("edit", {"filePath": FILE, "oldString": "helo", "newString": "hallo"})
RIGHT = Call("edit", {"filePath": FILE, "oldString": "hallo", "newString": "hello"})


@pytest.fixture(scope="module", autouse=True)
def _opencode_image() -> None:
    ensure_image("opencode", progress=print)


async def test_opencode_works_without_a_credential_and_repairs_what_the_checks_find(
    tmp_path: Path, world: Emulated, git: GitServer, model: MessagesApi
) -> None:
    look = Call("bash", {"command": "env", "description": "Look around"})
    model.answers.extend(
        [(Text("I will look."), look), (READ,), (WRONG,), (Text("It is mended."),)]
    )
    model.answers.extend([(RIGHT,), (Text("Now it is."),)])
    model.go_on.clear()
    async with a_team(tmp_path / "e", world=world, git=git, model=model, agent="opencode") as team:
        thread = await team.mention("The greeting is misspelt.")
        await until(asked(model), seconds=60, what="the model was asked")
        inspected = inspect(team)
        model.go_on.set()
        task = await team.ends(thread, seconds=90)

        assert task.state is TaskState.SUCCEEDED, task.reason
        shown = run_git(team.git.git_dir(REPO), "show", f"{task.branch}:greet.py")
        assert shown == b"print('hello')\n"
        the_key_stayed_outside(model, team, inspected)
        assert [a for a in model.asked if DUMMY in a.results]

        told = [row.record.event for row in await team.errand.events()]
        assert [e for e in told if isinstance(e, ToolCall) and e.status is StepStatus.DONE]
        phases = [(e.name, e.status) for e in told if isinstance(e, Phase)]
        assert phases.count(("repair", StepStatus.DONE)) == 1
        # It looks for its plug-ins' package when it starts, which no policy here lists.
        through = {e.rule for e in told if isinstance(e, Egress) and e.verdict == "allow"}
        assert through == {"connection:anthropic"}
        assert {a.body["model"] for a in model.asked} <= {"claude-sonnet-5", "claude-haiku-4-5"}
        cost = await the_record_has_the_cost(model, team)
        assert await team.hears(thread, f"${cost:.2f}", "#1")
        await team.errand.cleaned_up()


async def test_a_task_ends_at_its_budget_with_a_word(
    tmp_path: Path, world: Emulated, git: GitServer, model: MessagesApi
) -> None:
    model.answers.extend([(READ,)] * 20)
    async with a_team(
        tmp_path / "e", world=world, git=git, model=model, agent="opencode", cost_usd=0.02
    ) as team:
        thread = await team.mention("The greeting is misspelt.")
        task = await team.ends(thread, seconds=90)
        assert task.state is TaskState.FAILED
        assert await team.hears(thread, "The budget of $0.02 is used up", "nothing was published")
        assert await team.pulls() == []
        assert 0.02 <= await the_record_has_the_cost(model, team) < 0.04
        told = [row.record.event for row in await team.errand.events()]
        refused = [e for e in told if isinstance(e, Egress) and e.verdict == "deny" and e.rule]
        assert {e.rule for e in refused} == {"connection:anthropic"}
        assert all("the budget" in e.reason for e in refused)
        await team.errand.cleaned_up()
