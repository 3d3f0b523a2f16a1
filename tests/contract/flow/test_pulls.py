"""What becomes of a pull request after its errand ended is known without a word from anybody."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bot.front import HouseFront
from bot.in_force import InForce
from bot.pulls import PATIENCE, PullWatch, state_word, watch
from bot.store import cursors, tasks
from integrations.errors import UnavailableError
from tests.contract.flow.office import Office
from tests.contract.flow.press import REPO, FickleForge, Press
from tests.support.store import a_task


@dataclass(slots=True, kw_only=True)
class Watched:
    """A task that has ended with a pull request."""

    press: Press
    forge: FickleForge

    @property
    def office(self) -> Office:
        return self.press.office

    async def look(self) -> None:
        store, forges, now = self.office.store, self.press.forges, self.office.clock.now
        await PullWatch(store=store, forges=forges, now=now).step()

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
    await press.new_publisher().step()
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
