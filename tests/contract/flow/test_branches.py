"""The branch that a ticket names is taken only where nobody has it, and no longer once it is merged."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.branches import Branches
from bot.launch import launch_of
from bot.states import TaskState
from bot.store import cursors, tasks
from bot.store.rows import TaskRow
from bot.tasks import own_branch, pushed_key
from integrations.errors import UnavailableError
from integrations.forge import GitAccess, PullDraft
from integrations.testing_forge import FakeForge, FakeRepo
from runner.gitdir import held
from tests.contract.flow.office import Office
from tests.support.git_server import GitServer, commit, git_server

REPO = "acme/web"
WANTED = "dana/eng-12-login"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "server", token="t") as server:
        server.create(REPO, {"README.md": "# web\n"})
        yield server


async def settled(office: Office, server: GitServer, root: Path) -> str:
    access = GitAccess(url=f"{server.url}/{REPO}.git", header=SecretStr(server.header))
    forge = FakeForge(name="local", repos={REPO: FakeRepo(access=access)})
    branches = Branches(store=office.store, forges={"local": forge}, root=root)
    task = await branches.settle(await office.task())
    assert task == await office.task()
    return task.branch


@pytest.fixture
async def asked(office: Office) -> Office:
    inbound = office.inbound("acme/web fix").model_copy(update={"branch": WANTED})
    await office.intake.receive(inbound)
    await office.desk.work_off()
    return office


async def test_a_free_branch_is_taken(asked: Office, server: GitServer, tmp_path: Path) -> None:
    assert await settled(asked, server, tmp_path) == WANTED


async def test_a_branch_of_somebody_else_is_left_to_them(
    asked: Office, server: GitServer, tmp_path: Path
) -> None:
    commit(server.git_dir(REPO), {"x": "theirs\n"}, branch=WANTED, parent="main")
    task = await asked.task()
    assert await settled(asked, server, tmp_path) == own_branch(task.id, task.title)


async def test_a_branch_that_we_pushed_stays_ours(
    asked: Office, server: GitServer, tmp_path: Path
) -> None:
    sha = commit(server.git_dir(REPO), {"x": "ours\n"}, branch=WANTED, parent="main")
    async with asked.store.begin() as tx:
        await cursors.put(tx, pushed_key((await asked.task()).id), sha)
    assert await settled(asked, server, tmp_path) == WANTED


async def test_many_launches_at_once_do_not_collide(
    asked: Office, server: GitServer, tmp_path: Path
) -> None:
    found = await asyncio.gather(*(settled(asked, server, tmp_path) for _ in range(8)))
    assert set(found) == {WANTED}


async def test_a_launch_does_not_wait_for_a_publication_that_fetches_nor_for_what_it_left(
    asked: Office, server: GitServer, tmp_path: Path
) -> None:
    cache = tmp_path / "repos" / "local" / f"{REPO}.git"
    async with asyncio.timeout(8), held(cache):
        (cache / "config.lock").touch()
        assert await settled(asked, server, tmp_path) == WANTED


@dataclass(slots=True, kw_only=True)
class Published:
    """A task with a pull request, and its next run about to begin."""

    office: Office
    forge: FakeForge
    branches: Branches

    async def settled(self) -> TaskRow:
        return await self.branches.settle(await self.office.task())


@pytest.fixture
async def published(office: Office, tmp_path: Path) -> Published:
    await office.hear("acme/web fix it")
    task = await office.task()
    forge = FakeForge(name="local", repos={REPO: FakeRepo(access=GitAccess(url="file:///nowhere"))})
    draft = PullDraft(repo=REPO, head=task.branch, base="main", title="Fix", body="")
    pull = await forge.open_pull(draft)
    async with office.store.begin() as tx:
        await tasks.update(tx, task.id, pull_url=pull.url, round=2)
    await office.put(TaskState.STARTING, fence=2)
    branches = Branches(store=office.store, forges={"local": forge}, root=tmp_path)
    return Published(office=office, forge=forge, branches=branches)


@pytest.mark.parametrize("closed", [False, True])
async def test_a_follow_up_goes_on_with_its_branch(published: Published, *, closed: bool) -> None:
    before = await published.office.task()
    if closed:
        published.forge.close_pull(REPO, 1)
    assert await published.settled() == before == await published.office.task()


async def test_a_follow_up_on_what_is_merged_begins_anew(published: Published) -> None:
    before = await published.office.task()
    published.forge.merge_pull(REPO, 1)
    task = await published.settled()
    assert (task.branch, task.pull_url) == (f"{before.branch}-2", "")
    assert task == await published.office.task()
    assert await published.settled() == task
    assert not launch_of(task, installation="x", base_branch="main").resume


async def test_what_is_merged_while_a_run_works_stays_its_branch(published: Published) -> None:
    before = await published.settled()
    published.forge.merge_pull(REPO, 1)
    assert await published.settled() == before
    await published.office.put(TaskState.STARTING, fence=3)
    assert (await published.settled()).branch != before.branch


async def test_a_forge_that_does_not_answer_decides_nothing(published: Published) -> None:
    published.forge.merge_pull(REPO, 1)
    published.forge.fail(UnavailableError("local", "away"))
    with pytest.raises(UnavailableError):
        await published.settled()
    assert (await published.settled()).pull_url == ""
