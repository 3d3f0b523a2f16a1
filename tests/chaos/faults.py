"""What goes wrong, at random but repeatably: the seed gives which faults, in which order and after which pauses."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from bot.states import IN_SANDBOX, MAX_ATTEMPTS
from bot.store import tasks
from bot.store.errors import StoreError
from bot.store.rows import TaskRow
from tests.chaos.people import People
from tests.chaos.site import Site
from tests.support.dockerd import Dockerd
from tests.support.installation import until
from tests.support.linear import faults as linear
from tests.support.slack_api import Fault

SLACK = (
    Fault(status=429, code="ratelimited", retry_after="1"),
    Fault(status=500, body="<html>"),
    Fault(status=502, body="<html>", when="after"),
    Fault(cut=True),
    Fault(cut=True, when="after"),
    Fault(hang=True, when="after"),
)
METHODS = ("chat.postMessage", "chat.postMessage", "chat.update", "reactions.add")
"""New posts twice as often: only they can be doubled."""
LINEAR = (
    linear.rate_limited(1), linear.server_error(), linear.server_error(effect=True),
    linear.cut(effect=False), linear.cut(effect=True), linear.held(),
)  # fmt: skip
FLUSH_AT = 3
"""Which of the faults is the loss of everything that Redis holds."""
HANG_AT, HANG_TIMES = 5, 3
"""At which of its failures Slack begins to hang, and for how many calls of each method."""
KEEPER_SECONDS = 0.5
AT_WORK_SECONDS = 15.0
"""How long a daemon is spared that has nothing to do."""


@dataclass(slots=True, kw_only=True)
class Nemesis:
    """Two loops: processes that die, and calls that fail. And a keeper, as every host has one."""

    site: Site
    people: People
    rng: Random
    done: Counter[str] = field(default_factory=Counter)
    _deck: list[str] = field(default_factory=list)
    """Kinds of things whose turn it is: each dies as often as another."""
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def kill(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(self.rng.uniform(5, 12))
            kind = "flush" if number == FLUSH_AT else self._turn()
            victim, down_seconds = self._one_of(kind), self.rng.uniform(0, 2)
            await self._until_it_matters(kind)
            async with self._changing:
                if kind == "dockerd" and not await self._may_lose_docker():
                    self._deck = [*(self._deck or self._dealt()), kind]
                    continue
                await self._strike(victim, down_seconds)
            self.done[victim] += 1

    def spared(self) -> list[str]:
        """Kinds of which nothing has been killed."""
        killed = {name.partition("-")[0] for name, times in self.done.items() if times}
        return [kind for kind in ("flush", *self.site.plan.kinds) if kind not in killed]

    async def has_killed_all(self) -> bool:
        return not self.spared()

    def _turn(self) -> str:
        self._deck = self._deck or self._dealt()
        return self._deck.pop(0)

    def _dealt(self) -> list[str]:
        kinds = self.site.plan.kinds
        return self.rng.sample(kinds, len(kinds))

    async def _until_it_matters(self, kind: str) -> None:
        """In vain perhaps, for a while."""
        if kind == "flush":
            await self.people.until_at_work()
        if kind == "dockerd":
            with contextlib.suppress(AssertionError):
                await until(self._uses_docker, seconds=AT_WORK_SECONDS, what="Docker is used")

    async def _uses_docker(self) -> bool:
        return await asyncio.to_thread(self.site.is_docker_used)

    async def _may_lose_docker(self) -> bool:
        try:
            async with self.site.errand.store() as store, store.read() as conn:
                return not on_their_last(await tasks.in_states(conn, IN_SANDBOX))
        except StoreError:
            return False

    def _one_of(self, kind: str) -> str:
        plan = self.site.plan
        return self.rng.choice(
            {"work": plan.work_names, "serve": plan.serve_names}.get(kind, [kind])
        )

    async def end(self, *loops: asyncio.Task[None]) -> None:
        """Between two deaths: what was killed is there again."""
        async with self._changing:
            for loop in loops:
                loop.cancel()

    async def fail_calls(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(self.rng.uniform(1, 4))
            if number == HANG_AT:
                for method in sorted(set(METHODS)):
                    self.site.slack.fail(method, Fault(hang=True), times=HANG_TIMES)
                self.done["slack hangs"] += 1
            self.site.slack.fail(self.rng.choice(METHODS), self.rng.choice(SLACK))
            if self.rng.random() < 0.3:
                self.site.linear.faults.add(self.rng.choice(LINEAR))
                self.done["linear"] += 1
            self.done["slack"] += 1

    async def keep(self) -> None:
        """Start again what ended by itself."""
        while True:
            await asyncio.sleep(KEEPER_SECONDS)
            async with self._changing:
                for name, process in list(self.site.errand.processes.items()):
                    if process.poll() is not None:
                        self.done[f"ended by itself: {name}"] += 1
                        self.site.errand.start(name)

    async def _strike(self, victim: str, down_seconds: float) -> None:
        site = self.site
        match victim:
            case "flush":
                async with site.valkey.client() as client:
                    await client.flushall()
                await self.people.stop()
            case "redis":
                await site.valkey.kill()
                await asyncio.sleep(down_seconds)
                await site.valkey.start()
            case "postgres" if site.postgres:
                await asyncio.to_thread(site.postgres.stop)
                await asyncio.sleep(down_seconds)
                await asyncio.to_thread(site.postgres.start)
            case "dockerd" if site.dockerd:
                await self._strike_docker(site.dockerd, down_seconds)
            case name:
                site.errand.kill(name)
                await asyncio.sleep(down_seconds)
                site.errand.start(name)

    async def _strike_docker(self, daemon: Dockerd, down_seconds: float) -> None:
        since = datetime.now(UTC)
        await asyncio.to_thread(daemon.kill)
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(daemon.start)
        self.site.docker_away.append((since, datetime.now(UTC)))


def on_their_last(at_work: Collection[TaskRow]) -> list[str]:
    """Tasks that would fail if they were lost once more, as they should: a daemon takes its containers along."""
    return [task.id for task in at_work if task.attempts >= MAX_ATTEMPTS]
