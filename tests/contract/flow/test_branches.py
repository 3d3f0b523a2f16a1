"""The branch that a ticket names is taken only where nobody has it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.branches import Branches
from bot.store import cursors
from bot.tasks import own_branch, pushed_key
from integrations.forge import GitAccess
from integrations.testing_forge import FakeForge, FakeRepo
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
