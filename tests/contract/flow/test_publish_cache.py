"""Serve's own copy of a repository, from publication to publication: whoever was killed at it, and whoever waits."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typing_extensions import override

from bot.states import TaskState
from integrations.forge import GitAccess
from integrations.testing_forge import FakeForge, FakeRepo
from runner.gitdir import held
from tests.contract.flow.office import Office
from tests.contract.flow.press import REPO, Press, publish_due
from tests.support.git_server import run_git


@pytest.fixture
async def press(office: Office, tmp_path: Path) -> Press:
    return await Press.of(office, tmp_path)


@pytest.fixture
def cache(press: Press) -> Path:
    return press.root / "publish" / "repos" / "local" / f"{REPO}.git"


def leave_locked(cache: Path, *names: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    for name in names:
        (cache / f"{name}.lock").touch()


def refs_of(cache: Path) -> list[str]:
    found = [str(path.relative_to(cache)) for path in (cache / "refs").rglob("*") if path.is_file()]
    assert found
    return found


async def publish_again(press: Press, text: str, *, on: str) -> TaskState:
    """The next round of the task, with a commit on top of `on`; how it ends."""
    await press.office.hear(text, addressed=False)
    await press.work_again({"docs.md": f"{text}\n"}, on=on)
    await publish_due(press.new_publisher())
    return (await press.office.task()).state


async def test_what_a_killed_serve_left_locked_is_published_to_all_the_same(
    press: Press, cache: Path
) -> None:
    await press.work()
    await publish_due(press.new_publisher())
    branch = (await press.office.task()).branch
    assert await publish_again(press, "docs", on=branch) is TaskState.SUCCEEDED
    leave_locked(cache, "config", "HEAD", "packed-refs", "shallow", *refs_of(cache))
    press.someone_commits("main", on="main")
    assert await publish_again(press, "more docs", on=branch) is TaskState.SUCCEEDED


async def test_a_first_use_that_was_killed_is_begun_again(press: Press, cache: Path) -> None:
    leave_locked(cache, "config")
    await press.work()
    await publish_due(press.new_publisher())
    assert (await press.office.task()).state is TaskState.SUCCEEDED


async def test_a_branch_that_is_gone_is_not_in_the_way_of_one_below_its_name(press: Press) -> None:
    forge = press.fake()
    access = GitAccess(url=f"file://{press.git_dir}")
    run_git(press.git_dir, "branch", "-m", "main", "fix")
    forge.repos[REPO] = FakeRepo(access=access, default_branch="fix")
    await press.work(on="fix")
    await publish_due(press.new_publisher())
    branch = (await press.office.task()).branch
    run_git(press.git_dir, "branch", "-m", "fix", "fix/2")
    forge.repos[REPO] = FakeRepo(access=access, default_branch="fix/2")
    assert await publish_again(press, "docs", on=branch) is TaskState.SUCCEEDED


@dataclass(slots=True, kw_only=True)
class UsedMeanwhile(FakeForge):
    """Somebody else needs our copy of the repository when its credential for a push is asked for."""

    cache: Path
    used: list[Path] = field(default_factory=list)

    @override
    async def access(self, repo: str, *, write: bool) -> GitAccess:
        if write:
            async with asyncio.timeout(5), held(self.cache) as git:
                self.used.append(git.git_dir)
        return await FakeForge.access(self, repo, write=write)


async def test_nobody_waits_for_a_push(press: Press, cache: Path) -> None:
    repos = {REPO: FakeRepo(access=GitAccess(url=f"file://{press.git_dir}"))}
    press.forges["local"] = forge = UsedMeanwhile(name="local", repos=repos, cache=cache)
    await press.work()
    await publish_due(press.new_publisher())
    assert forge.used == [cache]
    assert (await press.office.task()).state is TaskState.SUCCEEDED
