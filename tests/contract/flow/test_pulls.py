"""What becomes of a pull request after its errand ended is known without a word from anybody."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from bot.front import HouseFront
from bot.in_force import InForce
from bot.pulls import CALL_SECONDS, PATIENCE, PullWatch, state_word, watch
from bot.store import cursors, tasks
from bot.store.errors import StoreUnavailableError
from integrations.errors import UnavailableError
from integrations.forge import Pull
from integrations.testing_forge import FakeForge
from tests.contract.flow.office import Office
from tests.contract.flow.press import REPO, FickleForge, Press, publish_due
from tests.support.store import a_task


@dataclass(slots=True, kw_only=True)
class Watched:
    """A task that has ended with a pull request."""

    press: Press
    forge: FickleForge

    @property
    def office(self) -> Office:
        return self.press.office

    async def look(self, *, call_seconds: float = CALL_SECONDS) -> None:
        store, forges, now = self.office.store, self.press.forges, self.office.clock.now
        watch = PullWatch(store=store, forges=forges, now=now, call_seconds=call_seconds)
        await watch.step()

    async def word(self) -> str:
        async with self.office.store.read() as conn:
            return await state_word(conn, await self.office.task())

    def asked(self) -> int:
        return self.forge.calls.count("ended_pulls")


@pytest.fixture
async def watched(office: Office, tmp_path: Path) -> Watched:
    press = await Press.of(office, tmp_path)
    forge = press.fake()
    await press.work()
    await publish_due(press.new_publisher())
    return Watched(press=press, forge=forge)


async def test_a_pull_request_that_is_open_is_said_to_be_done(watched: Watched) -> None:
    await watched.look()
    assert await watched.word() == "done"


@pytest.mark.parametrize(("merged", "word"), [(True, "merged"), (False, "pull request closed")])
async def test_what_became_of_it_is_shown_and_not_asked_again(
    watched: Watched, word: str, *, merged: bool
) -> None:
    (watched.forge.merge_pull if merged else watched.forge.close_pull)(REPO, 1)
    await watched.look()
    await watched.look()
    assert await watched.word() == f"done, {word}"
    assert watched.asked() == 1
    front = HouseFront(store=watched.office.store, in_force=InForce(watched.office.policy))
    [errand] = await front.errands("fake:dana", limit=5)
    assert errand.state == f"done, {word}"


async def test_a_repository_is_asked_once_for_all_that_is_open_in_it(watched: Watched) -> None:
    other = a_task(2, forge="local", repo=REPO, pull_url="http://forge.example/2")
    async with watched.office.store.begin() as tx:
        await tasks.insert(tx, other)
        await watch(tx, other.id, now=watched.office.clock.now())
    await watched.look()
    assert watched.asked() == 1


async def test_a_forge_that_is_away_is_asked_for_the_same_later(watched: Watched) -> None:
    watched.forge.merge_pull(REPO, 1)
    watched.forge.fail_at("ended_pulls", UnavailableError("local", "away"))
    await watched.look()
    assert await watched.word() == "done"
    watched.office.clock.forward(3600)
    await watched.look()
    assert await watched.word() == "done, merged"


async def test_it_is_given_up_after_a_while(watched: Watched) -> None:
    watched.office.clock.forward((PATIENCE + timedelta(days=1)).total_seconds())
    await watched.look()
    assert watched.asked() == 0
    async with watched.office.store.read() as conn:
        assert await cursors.starting(conn, "pull-open:") == {}


@dataclass(slots=True, kw_only=True)
class FaultyForge(FakeForge):
    """It breaks, or without an error it never answers."""

    error: Exception | None = field(default_factory=lambda: KeyError("a bug"))

    @override
    async def ended_pulls(self, repo: str, *, since: datetime) -> list[Pull]:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        return []


async def watch_before(watched: Watched, error: Exception | None) -> str:
    """Something is open on a forge at fault, which is asked first; its task."""
    watched.press.forges["other"] = FaultyForge(name="other", repos={}, error=error)
    task = a_task(1, id="00", forge="other", repo=REPO, pull_url="http://forge.example/2")
    async with watched.office.store.begin() as tx:
        await tasks.insert(tx, task)
        await watch(tx, task.id, now=watched.office.clock.now())
    return task.id


async def what_ended(watched: Watched) -> list[str]:
    async with watched.office.store.read() as conn:
        return list((await cursors.starting(conn, "pull-ended:")).values())


@pytest.mark.parametrize(
    ("error", "told"), [(KeyError("a bug"), "pulls_broke"), (None, "pulls_not_asked")]
)
async def test_a_forge_at_fault_is_told_of_and_keeps_back_no_other(
    watched: Watched, error: Exception | None, told: str
) -> None:
    await watch_before(watched, error)
    watched.forge.merge_pull(REPO, 1)
    with capture_logs() as logs:
        await watched.look(call_seconds=0.05)
    assert await what_ended(watched) == ["merged"]
    assert told in {line["event"] for line in logs}


async def test_a_note_that_cannot_be_read_is_told_of_and_keeps_back_no_other(
    watched: Watched,
) -> None:
    broken = await watch_before(watched, KeyError("a bug"))
    async with watched.office.store.begin() as tx:
        await cursors.put(tx, f"pull-open:{broken}", "yesterday")
    watched.forge.merge_pull(REPO, 1)
    with capture_logs() as logs:
        await watched.look()
    assert await what_ended(watched) == ["merged"]
    assert [line["task"] for line in logs if line["event"] == "pulls_unreadable"] == [broken]


async def test_a_database_that_is_away_is_no_fault_of_a_forge(watched: Watched) -> None:
    await watch_before(watched, StoreUnavailableError("away"))
    with pytest.raises(StoreUnavailableError):
        await watched.look()
