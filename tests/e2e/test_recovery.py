"""kill -9 of either process in the middle of a run."""

import pytest

from bot.states import TaskState
from tests.e2e.conftest import Team
from tests.support.emulate import REPO
from tests.support.installation import until

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(240)]

SLOW = """count slowly
```sh
for n in $(seq 1 60); do echo line-$n; sleep 0.1; done
sed -i s/helo/hello/ greet.py
```"""


async def lines_seen(team: Team) -> str:
    return "".join(e.record.event.model_dump_json() for e in await team.errand.events())


async def begun(team: Team) -> None:
    async def look() -> bool:
        return "line-5" in await lines_seen(team)

    await until(look, seconds=40, what="the agent is at work")


async def ends_well(team: Team, thread: str, agent: list[str]) -> None:
    task = await team.ends(thread, seconds=90)
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert (task.fence, task.attempts) == (1, 1)
    assert len(agent) == 1
    assert len(await team.pulls()) == 1
    seen = await lines_seen(team)
    assert all(f"line-{n}\\n" in seen for n in range(1, 61))
    assert team.git.sha(REPO, task.branch)
    last_words = [t for t in await team.thread(thread) if "/pull/" in t]
    assert len(last_words) == 1
    await team.errand.cleaned_up()


async def test_a_killed_worker_comes_back_to_the_same_container(team: Team) -> None:
    thread = await team.mention(SLOW)
    await begun(team)
    agent = team.errand.containers(role="agent")
    team.errand.kill("work")
    team.errand.start("work")
    assert team.errand.containers(role="agent") == agent
    await ends_well(team, thread, agent)


@pytest.mark.parametrize("moment", ["at-once", "mid-turn", "at-the-end"])
async def test_a_killed_serve_loses_and_doubles_nothing(team: Team, moment: str) -> None:
    thread = await team.mention(SLOW)
    if moment != "at-once":
        await begun(team)
    if moment == "at-the-end":

        async def last_line() -> bool:
            return "line-60" in await lines_seen(team)

        await until(last_line, seconds=40, what="the agent is nearly done")
    team.errand.kill("serve")
    team.errand.start("serve")
    await team.errand.answers()
    agent = team.errand.containers(role="agent") or ["gone already"]
    await ends_well(team, thread, agent)
