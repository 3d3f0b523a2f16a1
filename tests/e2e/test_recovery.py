"""The end of either process in the middle of a run, by kill -9 or as an operator ends it."""

import asyncio
import contextlib
import os
import shutil
import signal
from functools import partial

import docker
import pytest

from bot.line import NEXT
from bot.states import TaskState
from bot.valkey import PID_FILE
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


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
async def test_a_worker_that_ended_comes_back_to_the_same_container(
    team: Team, by: signal.Signals
) -> None:
    thread = await team.mention(SLOW)
    await begun(team)
    agent = team.errand.containers(role="agent")
    team.errand.kill("work", by=by)
    team.errand.start("work")
    assert team.errand.containers(role="agent") == agent
    await ends_well(team, thread, agent)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
@pytest.mark.parametrize("moment", ["at-once", "mid-turn", "at-the-end"])
async def test_a_serve_that_ended_loses_and_doubles_nothing(
    team: Team, moment: str, by: signal.Signals
) -> None:
    thread = await team.mention(SLOW)
    if moment != "at-once":
        await begun(team)
    if moment == "at-the-end":

        async def last_line() -> bool:
            return "line-60" in await lines_seen(team)

        await until(last_line, seconds=40, what="the agent is nearly done")
    team.errand.kill("serve", by=by)
    team.errand.start("serve")
    await team.errand.answers()
    agent = team.errand.containers(role="agent") or ["gone already"]
    await ends_well(team, thread, agent)


async def test_a_machine_that_ends_in_the_middle_of_everything_goes_on_after_its_start(
    team: Team,
) -> None:
    """As by a cut of its power: every process and container at once, without a word; the disk stays."""
    thread = await team.mention(SLOW)
    await begun(team)
    valkey = int((team.errand.data / "valkey" / PID_FILE).read_text())
    for process in team.errand.processes.values():
        process.kill()
    os.kill(valkey, signal.SIGKILL)
    with contextlib.closing(docker.from_env()) as client:
        for container in team.errand.containers():
            with contextlib.suppress(docker.errors.APIError):  # it may have ended by itself
                client.api.kill(container)
    team.errand.stop()

    await team.errand.up()
    task = await team.ends(thread, seconds=120)
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert (task.fence, task.attempts) == (2, 2)
    assert [run.outcome for run in await team.errand.runs()] == ["failed", "done"]
    assert len(await team.pulls()) == 1
    assert len([t for t in await team.thread(thread) if "/pull/" in t]) == 1
    await team.errand.cleaned_up()


async def test_a_drained_host_ends_its_runs_and_takes_no_more(team: Team) -> None:
    thread = await team.mention(SLOW)
    await begun(team)
    agent = team.errand.containers(role="agent")
    assert team.errand.kill("work", by=signal.SIGTERM) == 0
    team.errand.start("work", "--drain")
    draining = team.errand.processes["work"]
    assert await asyncio.to_thread(draining.wait, 60) == 0
    await ends_well(team, thread, agent)
    after = await team.mention("echo hello")

    async def next_in_line() -> bool:
        return any(NEXT in text for text in await team.thread(after))

    await until(next_in_line, seconds=30, what="the next errand waits for a host, and says so")
    assert "errand_launches_waiting 0.0" in await team.metrics()


@pytest.mark.parametrize("lost", [(), ("host", "runs")], ids=["the database", "the directory"])
async def test_what_a_restored_database_does_not_know_is_set_aside(
    team: Team, lost: tuple[str, ...]
) -> None:
    backup = str(team.errand.root / "b.tar.gz")

    async def has_name() -> bool:
        return (team.errand.data / "host").exists()

    await until(has_name, seconds=30, what="`work` has its name")
    assert team.errand.cli("backup", backup).returncode == 0
    await team.mention(SLOW)
    await begun(team)
    agent = team.errand.containers(role="agent")
    team.errand.kill("serve", by=signal.SIGTERM)
    for name in ("errand.db", "errand.db-wal", "errand.db-shm", "worker.token", "vault.key"):
        (team.errand.data / name).unlink(missing_ok=True)
    team.errand.kill("work", by=signal.SIGTERM)
    for name in lost:
        shutil.move(team.errand.data / name, team.errand.root / f"lost-{name}")
    done = team.errand.cli("restore", backup)
    assert done.returncode == 0, done.stderr
    team.errand.start("serve")
    await team.errand.answers()
    team.errand.start("work")

    async def aside() -> bool:
        return "aside-errand-" in team.errand.cli("aside", "list").stdout

    await until(aside, seconds=60, what="the sandbox is set aside")
    assert team.errand.containers(role="agent") == agent
    told = team.errand.cli("doctor", "work").stdout
    assert "errand aside remove" in told
    assert team.errand.cli("aside", "remove", "all").returncode == 0
    await team.errand.cleaned_up()


@pytest.mark.parametrize("named", [True, False], ids=["named", "without-a-name"])
async def test_what_ran_when_the_data_were_lost_is_found_by_who_restores_them(
    team: Team, *, named: bool
) -> None:
    """Nothing is left of the data directory but a copy; older copies do not hold the host's name."""
    await until(partial(_has_a_name, team), seconds=60, what="`errand work` has begun")
    backup = str(team.errand.root / "b.tar.gz")
    assert team.errand.cli("backup", backup).returncode == 0
    await team.mention(SLOW)
    await begun(team)
    [task] = await team.errand.tasks()
    agent = team.errand.containers(role="agent")
    for name in ("work", "serve"):
        team.errand.kill(name, by=signal.SIGTERM)
    team.errand.data.rename(team.errand.root / "lost")
    done = team.errand.cli("restore", backup)
    assert done.returncode == 0, done.stderr
    if not named:
        (team.errand.data / "host").unlink()
    await team.errand.up()
    told = await until(
        partial(_told_by_doctor, team, f"{task.id}:1"), seconds=60, what="doctor names the run"
    )
    assert team.errand.containers(role="agent") == agent
    if not named:
        assert "their `errand work` is not there" in told
        return
    assert "errand aside remove" in told
    assert f"aside-errand-{task.id}-1-agent" in team.errand.cli("aside", "list").stdout
    with contextlib.closing(docker.from_env()) as client:
        assert client.api.inspect_container(agent[0])["State"]["Paused"]
    assert team.errand.cli("aside", "remove", "all").returncode == 0
    await team.errand.cleaned_up()


async def _has_a_name(team: Team) -> bool:
    return (team.errand.data / "host").exists()


async def _told_by_doctor(team: Team, run: str) -> str | None:
    told = team.errand.cli("doctor", "work").stdout
    return told if run in told else None
