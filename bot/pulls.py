"""What became of pull requests after their errands ended: asked of the forge, and shown where people look."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.guard import others_go_on
from bot.intake import utc_now
from bot.metrics import Metrics
from bot.progress import STATE_WORDS
from bot.states import TaskState
from bot.store import cursors, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.rows import TaskRow
from integrations.errors import IntegrationError
from integrations.forge import Forge, Pull

log = structlog.get_logger()

EVERY_SECONDS: Final = 300.0
CALL_SECONDS: Final = 60.0
"""For all that ended in one repository."""
OVERLAP: Final = timedelta(minutes=10)
"""The forge stamps by its own clock."""
PATIENCE: Final = timedelta(days=30)
"""A pull request that is still open after so long is not watched any more."""
OPEN, ENDED, SINCE = "pull-open:", "pull-ended:", "pulls-since:"
Watched = tuple[TaskRow, datetime]
"""A task whose pull request is open, and when it was last pushed to."""
WORDS = {"merged": "merged", "closed": "pull request closed"}


async def watch(tx: AsyncConnection, task: str, *, now: datetime) -> None:
    """A pull request was opened, or pushed to, for this task."""
    await cursors.put(tx, f"{OPEN}{task}", now.isoformat())
    await cursors.drop(tx, f"{ENDED}{task}")


async def state_word(conn: AsyncConnection, task: TaskRow) -> str:
    """How a task stands, for people, with what became of its pull request."""
    word = STATE_WORDS[task.state]
    if task.state is not TaskState.SUCCEEDED or not task.pull_url:
        return word
    ended = await cursors.get(conn, f"{ENDED}{task.id}")
    return f"{word}, {WORDS[ended]}" if ended in WORDS else word


@dataclass(frozen=True, slots=True, kw_only=True)
class PullWatch:
    """One question for each repository in which something of ours is open."""

    store: Store
    forges: Mapping[str, Forge]
    now: Callable[[], datetime] = utc_now
    call_seconds: float = CALL_SECONDS
    metrics: Metrics = field(default_factory=Metrics)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self.step()
            except StoreError:
                log.exception("pulls_store_unreachable")
            await asyncio.sleep(EVERY_SECONDS)

    async def step(self) -> None:
        places: dict[tuple[str, str], list[Watched]] = defaultdict(list)
        for task, since in await self._watched():
            places[task.forge, task.repo].append((task, since))
        for (forge, repo), watched in places.items():
            if forge in self.forges:
                await self._ask_one_of_many(self.forges[forge], repo, watched)

    async def _ask_one_of_many(self, forge: Forge, repo: str, watched: list[Watched]) -> None:
        """Whatever becomes of it, the others are asked for."""
        with others_go_on(
            "pulls", self.metrics, StoreUnavailableError, forge=forge.name, repo=repo
        ):
            try:
                await self._ask(forge, repo, watched)
            except (IntegrationError, TimeoutError) as error:
                log.warning("pulls_not_asked", repo=repo, error=repr(error))

    async def _watched(self) -> list[Watched]:
        """What is not worth asking for is forgotten."""
        found: list[Watched] = []
        async with self.store.begin() as tx:
            for task_id, noted in (await cursors.starting(tx, OPEN)).items():
                try:
                    task, since = await tasks.get(tx, task_id), datetime.fromisoformat(noted)
                except SQLAlchemyError:
                    raise
                except Exception:  # a row, or a note, that can't be read
                    log.exception("pulls_unreadable", task=task_id)
                    continue
                if task is None or not task.pull_url or since < self.now() - PATIENCE:
                    await cursors.drop(tx, f"{OPEN}{task_id}")
                else:
                    found.append((task, since))
        return found

    async def _ask(self, forge: Forge, repo: str, watched: list[Watched]) -> None:
        now, name = self.now(), f"{SINCE}{forge.name}:{repo}"
        async with self.store.read() as conn:
            known = await cursors.get(conn, name)
        asked_at = datetime.fromisoformat(known) if known else min(at for _, at in watched)
        async with asyncio.timeout(self.call_seconds):
            pulls = await forge.ended_pulls(repo, since=asked_at - OVERLAP)
        ended = {pull.url: pull for pull in pulls}
        async with self.store.begin() as tx:
            for task, _ in watched:
                if (pull := ended.get(task.pull_url)) is not None:
                    await _ended(tx, task, pull)
            await cursors.put(tx, name, now.isoformat())


async def _ended(tx: AsyncConnection, task: TaskRow, pull: Pull) -> None:
    state = "merged" if pull.merged else "closed"
    await cursors.drop(tx, f"{OPEN}{task.id}")
    await cursors.put(tx, f"{ENDED}{task.id}", state)
    log.info("pull_ended", task=task.id, repo=task.repo, number=pull.number, state=state)
