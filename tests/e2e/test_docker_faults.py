"""The end of what runs the containers, or of the way to it, in the middle of a run."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.states import TaskState
from tests.e2e.conftest import Team, team_with
from tests.e2e.test_recovery import SLOW, begun, ends_well
from tests.support.docker_host import default_image
from tests.support.dockerd import dockerd
from tests.support.emulate import Emulated
from tests.support.git_server import GitServer
from tests.support.installation import until
from tests.support.relay import wire

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(300)]


async def told_of_it(team: Team) -> None:
    async def look() -> bool:
        return "docker_away" in (team.errand.root / "work.log").read_text()

    await until(look, seconds=30, what="the worker knows that Docker is away")


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """Not tmp_path: the name of a unix socket may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="wire-") as directory:
        yield Path(directory)


async def test_a_run_goes_on_when_its_host_was_cut_off_from_docker(
    tmp_path: Path, home: Path, world: Emulated, git: GitServer
) -> None:
    docker = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    async with (
        wire(home / "docker.sock", Path(docker)) as line,
        team_with(tmp_path / "e", world, git, ERRAND_WORK__DOCKER_HOST=line.url) as team,
    ):
        await team.errand.up()
        thread = await team.mention(SLOW)
        await begun(team)
        agent = team.errand.containers(role="agent")
        await line.cut()
        await told_of_it(team)
        await line.mend()
        await ends_well(team, thread, agent)


async def test_a_run_that_died_with_docker_is_done_again(
    tmp_path: Path, world: Emulated, git: GitServer
) -> None:
    with dockerd(default_image()) as daemon:
        async with team_with(
            tmp_path / "e", world, git, ERRAND_WORK__DOCKER_HOST=daemon.url
        ) as team:
            team.errand.docker_hosts = (daemon.url,)
            await team.errand.up()
            thread = await team.mention(SLOW)
            await begun(team)
            await asyncio.to_thread(daemon.kill)
            await told_of_it(team)
            await asyncio.to_thread(daemon.start)
            task = await team.ends(thread, seconds=120)
            assert task.state is TaskState.SUCCEEDED, task.reason
            assert (task.fence, task.attempts) == (2, 2)
            assert len(await team.pulls()) == 1
            assert len([text for text in await team.thread(thread) if "/pull/" in text]) == 1

            async def bare() -> bool:
                return not team.errand.containers()

            await until(bare, seconds=30, what="no container is left")
            assert not list((team.errand.data / "runs").glob("*"))
