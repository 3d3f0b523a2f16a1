"""A forge that does not accept our credential: finished work waits for a new one, however long that takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from typing_extensions import override

from bot.patience import GIVE_UP_SECONDS
from bot.standing import ASK_AGAIN_SECONDS, stopped_destinations
from bot.states import TaskState
from integrations.errors import UnavailableError
from integrations.forge import GitAccess
from integrations.testing_forge import FakeForge, FakeRepo
from tests.contract.flow.office import Office
from tests.contract.flow.press import REPO, FickleForge, Press, publish_due, step_by_step
from tests.support.git_server import GitServer, git_server

LONGEST = ASK_AGAIN_SECONDS[1]
STATES = pytest.mark.parametrize(
    ("waiting", "ended"),
    [
        (TaskState.PUBLISHING, TaskState.SUCCEEDED),
        (TaskState.KEEPING, TaskState.STOPPED),
    ],
)


@pytest.fixture
async def press(office: Office, tmp_path: Path) -> Press:
    return await Press.of(office, tmp_path)


@pytest.fixture
def forge(press: Press) -> FickleForge:
    """It refuses our credential."""
    made = press.fake()
    made.revoked = True
    return made


@STATES
async def test_work_waits_for_a_new_credential_and_is_published_then(
    press: Press, forge: FickleForge, waiting: TaskState, ended: TaskState
) -> None:
    run = await press.work()
    await press.office.put(waiting)
    head = press.handed_in.hand_in(run).head
    publisher = press.new_publisher()
    await step_by_step(press, publisher, 3, apart=GIVE_UP_SECONDS)
    task = await press.office.task()
    assert (task.state, press.handed_in.bundle(run).is_file()) == (waiting, True)
    assert await press.office.finals() == []

    forge.revoked = False
    await publish_due(publisher)
    task = await press.office.task()
    assert (task.state, press.at(task.branch)) == (ended, head)
    assert len(await press.office.finals()) == 1


@STATES
async def test_that_a_credential_is_refused_is_told_once_and_to_the_operator(
    press: Press, forge: FickleForge, waiting: TaskState, ended: TaskState
) -> None:
    await press.work()
    await press.office.put(waiting)
    publisher = press.new_publisher()
    await step_by_step(press, publisher, 3, apart=LONGEST)
    [notice] = await press.office.notices()
    assert "not accept" in notice
    assert "operator" in notice
    [card] = await press.office.cards()
    assert "credential" in card.doing
    assert list(await stopped_destinations(press.office.store)) == ["local"]

    forge.revoked = False
    await publish_due(publisher)
    assert (await press.office.task()).state is ended
    assert await stopped_destinations(press.office.store) == {}


async def test_a_refused_credential_is_tried_less_and_less_often(
    press: Press, forge: FickleForge
) -> None:
    await press.work()
    publisher = press.new_publisher()
    await step_by_step(press, publisher, 600, apart=1)
    assert 10 <= len(forge.calls) <= 20


async def test_a_new_start_tries_a_new_credential_at_once(press: Press, forge: FickleForge) -> None:
    await press.work()
    await publish_due(press.new_publisher())
    forge.revoked = False
    await publish_due(press.new_publisher())
    assert (await press.office.task()).state is TaskState.SUCCEEDED


async def test_days_without_a_credential_are_no_days_of_an_absent_forge(
    press: Press, forge: FickleForge
) -> None:
    await press.work()
    publisher = press.new_publisher()
    for _ in range(3):
        press.office.clock.forward(GIVE_UP_SECONDS)
        await publish_due(publisher)
    press.office.clock.forward(LONGEST)
    forge.revoked = False
    forge.fail(UnavailableError("forge", "502"))
    after_a_start = press.new_publisher()
    await publish_due(after_a_start)
    assert (await press.office.task()).state is TaskState.PUBLISHING
    press.office.clock.forward(LONGEST)
    await publish_due(after_a_start)
    assert (await press.office.task()).state is TaskState.SUCCEEDED


@dataclass(slots=True, kw_only=True)
class TwoTokens(FakeForge):
    """One for reading, one for writing; neither is the one that pull requests are made with."""

    headers: dict[str, str]

    @override
    async def access(self, repo: str, *, write: bool) -> GitAccess:
        access = await FakeForge.access(self, repo, write=write)
        header = SecretStr(self.headers["write" if write else "read"])
        return access.model_copy(update={"header": header})


@pytest.fixture
def server(press: Press) -> Iterator[GitServer]:
    """The local forge's repositories, for who has the token."""
    with git_server(press.root / "forge") as server:
        yield server


@STATES
@pytest.mark.parametrize("refused", ["read", "write"])
async def test_work_waits_for_a_new_credential_where_git_alone_is_refused(
    press: Press, server: GitServer, waiting: TaskState, ended: TaskState, refused: str
) -> None:
    repos = {REPO: FakeRepo(access=GitAccess(url=f"{server.url}/{REPO}.git"))}
    headers = dict.fromkeys(("read", "write"), server.header) | {refused: "Authorization: Basic eA"}
    press.forges["local"] = forge = TwoTokens(name="local", repos=repos, headers=headers)
    head = press.handed_in.hand_in(await press.work()).head
    await press.office.put(waiting)
    publisher = press.new_publisher()
    await step_by_step(press, publisher, 3, apart=GIVE_UP_SECONDS)
    [notice] = await press.office.notices()
    assert "not accept Errand's credential (could not read Username for 'http://" in notice
    assert list(await stopped_destinations(press.office.store)) == ["local"]

    forge.headers[refused] = server.header
    await publish_due(publisher)
    task = await press.office.task()
    assert (task.state, press.at(task.branch)) == (ended, head)
    assert await stopped_destinations(press.office.store) == {}


async def test_a_repository_that_the_token_does_not_reach_is_waited_for_as_well(
    press: Press, server: GitServer
) -> None:
    access = GitAccess(url=f"{server.url}/{REPO}.git", header=SecretStr(server.header))
    press.forges["local"] = FakeForge(name="local", repos={REPO: FakeRepo(access=access)})
    server.errors.append(403)
    await press.work()
    publisher = press.new_publisher()
    await publish_due(publisher)
    [notice] = await press.office.notices()
    assert "403" in notice
    press.office.clock.forward(GIVE_UP_SECONDS)
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.SUCCEEDED
