"""A publication that breaks for a reason that nobody foresaw: it holds up no other, and comes to an end."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from bot.patience import PUZZLED_SECONDS
from bot.publish import AT_ONCE, BREAKS, RETRY_SECONDS
from bot.states import TaskState
from bot.store import tasks
from bot.store.errors import StoreUnavailableError
from integrations.errors import MalformedPayloadError
from integrations.forge import GitAccess
from integrations.testing_forge import FakeForge, FakeRepo
from runner.protocol import RunKey
from tests.contract.flow.office import Office
from tests.contract.flow.press import FIX, REPO, Press, publish_due, step_by_step
from tests.support.builders import a_conversation
from tests.support.installation import until
from tests.support.loops import running
from tests.support.store import a_task


@dataclass(slots=True, kw_only=True)
class BrokenForge(FakeForge):
    """One with a bug, as long as `error` is there."""

    error: Exception | None = field(default_factory=lambda: KeyError("a bug"))

    @override
    async def default_branch(self, repo: str) -> str:
        self.calls.append("default_branch")
        if self.error is not None:
            raise self.error
        return "main"


class HangingForge(FakeForge):
    """It takes a call, and never answers."""

    @override
    async def default_branch(self, repo: str) -> str:
        self.calls.append("default_branch")
        return str(await asyncio.Event().wait())


@pytest.fixture
async def press(office: Office, tmp_path: Path) -> Press:
    return await Press.of(office, tmp_path)


def a_broken_forge(press: Press, name: str = "local") -> BrokenForge:
    repos = {REPO: FakeRepo(access=GitAccess(url=f"file://{press.git_dir}"))}
    press.forges[name] = forge = BrokenForge(name=name, repos=repos)
    return forge


async def waits_longer(press: Press, n: int, *, forge: str, repo: str = REPO) -> str:
    """Another task, whose turn is before the first one's; its id."""
    granted = (await press.office.tasks())[0].grant
    task = a_task(
        n,
        forge=forge,
        repo=repo,
        grant=granted,
        state=TaskState.PUBLISHING,
        fence=n,
        conversation=a_conversation(thread=f"{n}.0"),
        changed_at=press.office.clock.now() - timedelta(seconds=60),
    )
    async with press.office.store.begin() as tx:
        await tasks.insert(tx, task)
    await press.hand_in(RunKey(task=task.id, fence=n), FIX, branch=task.branch, on="main")
    return task.id


async def state_of(press: Press, task_id: str) -> TaskState:
    async with press.office.store.read() as conn:
        task = await tasks.get(conn, task_id)
    assert task is not None
    return task.state


async def test_a_bug_that_one_task_meets_holds_up_no_other(press: Press) -> None:
    run = await press.work()
    a_broken_forge(press, "strange")
    broken = await waits_longer(press, 7, forge="strange")
    await publish_due(press.new_publisher())
    assert await state_of(press, broken) is TaskState.PUBLISHING
    assert await state_of(press, run.task) is TaskState.SUCCEEDED


async def test_what_breaks_is_tried_again_after_a_pause(press: Press) -> None:
    forge = a_broken_forge(press)
    await press.work()
    publisher = press.new_publisher()
    for _ in range(2):
        await publish_due(publisher)
    assert forge.calls == ["default_branch"]
    forge.error = None
    press.office.clock.forward(RETRY_SECONDS)
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.SUCCEEDED
    assert len(await press.office.finals()) == 1


@pytest.mark.parametrize(
    ("waiting", "ended", "outcome"),
    [
        (TaskState.PUBLISHING, TaskState.FAILED, "failed"),
        (TaskState.KEEPING, TaskState.STOPPED, "stopped"),
    ],
)
async def test_what_breaks_again_and_again_ends_with_a_word(
    press: Press, waiting: TaskState, ended: TaskState, outcome: str
) -> None:
    forge = a_broken_forge(press)
    await press.work()
    await press.office.put(waiting)
    await step_by_step(press, press.new_publisher(), 2 * BREAKS)
    assert (await press.office.task()).state is ended
    [word] = await press.office.finals()
    assert word.outcome == outcome
    assert all(said in word.text for said in ("broke", "operator", "log", "retry"))
    assert forge.calls == ["default_branch"] * BREAKS


async def test_what_was_given_up_is_published_when_it_is_asked_for_again(press: Press) -> None:
    forge = a_broken_forge(press)
    publisher = press.new_publisher()
    await press.work()
    await step_by_step(press, publisher, BREAKS + 1)
    assert (await press.office.task()).state is TaskState.FAILED
    forge.error = None
    await press.office.hear("retry")
    await press.work_again({"greet.py": "print('hello!')\n"}, on="main")
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.SUCCEEDED


async def test_what_can_not_even_be_given_up_holds_up_no_other_and_is_tried_seldom(
    press: Press,
) -> None:
    forge = a_broken_forge(press)
    await press.work()
    publisher = press.new_publisher()
    async with press.office.refusing("audit"):
        await step_by_step(press, publisher, 10 * BREAKS)
    assert (await press.office.task()).state is TaskState.PUBLISHING
    assert len(forge.calls) == BREAKS
    press.office.clock.forward(PUZZLED_SECONDS)
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.FAILED


async def test_a_database_that_is_away_is_no_fault_of_the_task(press: Press) -> None:
    forge = a_broken_forge(press)
    forge.error = StoreUnavailableError("away")
    await press.work()
    publisher = press.new_publisher()
    for _ in range(2 * BREAKS):
        with pytest.raises(StoreUnavailableError):
            await publish_due(publisher)
    forge.error = None
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.SUCCEEDED


async def test_a_forge_that_hangs_is_left_alone_for_a_while(press: Press) -> None:
    await press.office.hear("acme/web fix it")
    press.forges["silent"] = forge = HangingForge(name="silent", repos={})
    hanging = [await waits_longer(press, n, forge="silent") for n in (6, 7)]
    other = await waits_longer(press, 8, forge="switched off")
    publisher = press.new_publisher()
    publisher.attempt_seconds = 0.05
    await publish_due(publisher)
    assert forge.calls == ["default_branch"]
    assert [await state_of(press, task) for task in hanging] == [TaskState.PUBLISHING] * 2
    assert await state_of(press, other) is TaskState.FAILED
    press.office.clock.forward(RETRY_SECONDS)
    await publish_due(publisher)
    assert forge.calls == ["default_branch"] * 2


async def test_a_publication_that_takes_long_holds_up_no_other(press: Press) -> None:
    run = await press.work()
    press.forges["silent"] = forge = HangingForge(name="silent", repos={})
    hanging = await waits_longer(press, 6, forge="silent")

    async def is_published() -> bool:
        return await state_of(press, run.task) is TaskState.SUCCEEDED

    async with running(press.new_publisher().run()):
        await until(is_published, seconds=30, what="the other one is published")
    assert forge.calls == ["default_branch"]
    assert await state_of(press, hanging) is TaskState.PUBLISHING


async def test_of_a_forge_some_repositories_have_their_turn_each_with_one_task(
    press: Press,
) -> None:
    await press.work()
    repos = ["acme/a", "acme/a", *(f"acme/{n}" for n in range(AT_ONCE))]
    ids = [
        await waits_longer(press, n, forge="silent", repo=repo)
        for n, repo in enumerate(repos, start=10)
    ]
    publisher = press.new_publisher()
    taken = await publisher.take()
    first = [task.id for task in taken if task.forge == "silent"]
    assert first == [ids[0], *ids[2 : 1 + AT_ONCE]]
    assert await publisher.take() == []
    for task in taken:
        await publisher.attempt(task)
    again = [task.id for task in await publisher.take()]
    assert again == [ids[1], ids[-1]]


async def test_what_was_taken_on_a_duty_that_was_lost_is_published_on_the_next(
    press: Press,
) -> None:
    run = await press.work()
    publisher = press.new_publisher()
    assert len(await publisher.take()) == 1

    async def is_published() -> bool:
        return await state_of(press, run.task) is TaskState.SUCCEEDED

    async with running(publisher.run()):
        await until(is_published, seconds=30, what="it is published")


@pytest.mark.parametrize("state", [TaskState.PUBLISHING, TaskState.KEEPING])
async def test_what_waited_for_its_turn_has_as_much_patience(
    press: Press, state: TaskState
) -> None:
    await press.work()
    await press.office.put(state)
    press.office.clock.forward(2 * PUZZLED_SECONDS)
    press.fake().fail_at("default_branch", MalformedPayloadError("strange"))
    publisher = press.new_publisher()
    await publish_due(publisher)
    assert (await press.office.task()).state is state
    press.office.clock.forward(RETRY_SECONDS)
    await publish_due(publisher)
    assert (await press.office.task()).state in {TaskState.SUCCEEDED, TaskState.STOPPED}
    assert len(await press.office.finals()) == 1
