"""Stop: the first keeps what there is of the work, the second does not wait for that."""

import signal
from datetime import UTC, datetime

import pytest

from bot.states import TaskState
from bot.tasks import SAME_GESTURE_SECONDS
from tests.e2e.conftest import Team
from tests.support.emulate import REPO
from tests.support.git_server import run_git
from tests.support.installation import until

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(180)]

HALF = "do it\n```sh\necho half > half.txt\nsleep 300\n```"
REST = "go on\n```sh\ncat half.txt\nsed -i s/helo/hello/ greet.py\n```"


def files(team: Team, branch: str) -> set[str]:
    listed = run_git(team.git.git_dir(REPO), "ls-tree", "--name-only", f"refs/heads/{branch}")
    return set(listed.decode().splitlines())


async def test_a_stopped_run_leaves_its_work_on_the_branch_and_is_gone_on_with(team: Team) -> None:
    thread = await team.mention(HALF)
    await team.hears(thread, "sleep 300", seconds=30)
    await team.reply("stop", thread)
    task = await team.errand.ended(seconds=10)
    assert task.state is TaskState.STOPPED
    await team.hears(thread, "What it had done so far is on the branch", task.branch, seconds=5)
    assert "half.txt" in files(team, task.branch)
    assert await team.pulls() == []
    kept = team.git.sha(REPO, task.branch)
    await team.ends(thread)
    await team.errand.cleaned_up()

    await team.reply(REST, thread)

    async def begun() -> bool:
        [row] = await team.errand.tasks()
        return row.round > 1

    await until(begun, seconds=10, what="the next round has begun")
    again = await team.ends(thread)
    assert (again.round, again.state) == (2, TaskState.SUCCEEDED), again.reason
    [pull] = await team.pulls()
    assert pull["head"]["ref"] == task.branch
    assert "half.txt" in files(team, task.branch)
    run_git(team.git.git_dir(REPO), "merge-base", "--is-ancestor", str(kept), task.branch)


async def test_what_was_kept_is_published_though_nothing_was_added(team: Team) -> None:
    thread = await team.mention(HALF.replace("sleep", "sed -i s/helo/hello/ greet.py\nsleep"))
    await team.hears(thread, "sleep 300", seconds=30)
    await team.reply("stop", thread)
    stopped = await team.errand.ended(seconds=10)
    await team.ends(thread)
    await team.reply("that is enough\n```sh\ntrue\n```", thread)

    async def published() -> bool:
        return bool(await team.pulls())

    await until(published, seconds=60, what="there is a pull request")
    assert "half.txt" in files(team, stopped.branch)


async def test_a_second_stop_does_not_wait(team: Team) -> None:
    """Nor for an agent that takes its time to end."""
    thread = await team.mention(HALF.replace("sleep", "trap '' INT TERM HUP\nsleep"))
    await team.hears(thread, "sleep 300", seconds=30)
    team.errand.processes["work"].send_signal(signal.SIGSTOP)
    await team.reply("stop", thread)

    async def apart() -> bool:
        [task] = await team.errand.tasks()
        age = (datetime.now(UTC) - task.changed_at).total_seconds()
        return task.state is TaskState.STOPPING and age > SAME_GESTURE_SECONDS

    await until(apart, seconds=10, what="the second is no double click")
    await team.reply("stop", thread)

    async def sent() -> bool:
        given = await team.errand.commands()
        return [c.kind for c in given if c.sent_at is not None] == ["stop", "stop"]

    await until(sent, seconds=10, what="both wait for the worker")
    team.errand.processes["work"].send_signal(signal.SIGCONT)
    task = await team.errand.ended(seconds=5)
    assert task.state is TaskState.STOPPED
    await team.hears(thread, "Nothing was published", seconds=5)
    assert team.git.sha(REPO, task.branch) is None
    await team.errand.cleaned_up()
