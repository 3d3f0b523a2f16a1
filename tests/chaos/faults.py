"""What goes wrong, at random but repeatably: the seed gives which faults, in which order and after which pauses."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from tests.chaos.people import People
from tests.chaos.site import Site
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
DOCKERD_TIMES = 2
"""What a task may lose: it ends with its third attempt."""
KEEPER_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Nemesis:
    """Two loops: processes that die, and calls that fail. And a keeper, as every host has one."""

    site: Site
    people: People
    rng: Random
    done: Counter[str] = field(default_factory=Counter)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def kill(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self.rng.uniform(5, 12))
            number += 1
            victim = "flush" if number == FLUSH_AT else self.rng.choice(self._victims())
            down_seconds = self.rng.uniform(0, 2)
            if victim == "flush":
                await self.people.until_at_work()
            async with self._changing:
                await self._strike(victim, down_seconds)
            self.done[victim] += 1

    async def has_flushed(self) -> bool:
        return self.done["flush"] > 0

    def _victims(self) -> list[str]:
        """Each kind of thing dies as often as another."""
        site = self.site
        kinds = [
            self.rng.choice(site.plan.work_names),
            self.rng.choice(site.plan.serve_names),
            "redis",
        ]
        kinds += ["postgres"] if site.postgres else []
        may = site.dockerd and self.done["dockerd"] < DOCKERD_TIMES
        return kinds + (["dockerd"] if may else [])

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
                        self.done[f"{name} ended by itself"] += 1
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
                await asyncio.to_thread(site.dockerd.kill)
                await asyncio.sleep(down_seconds)
                await asyncio.to_thread(site.dockerd.start)
            case name:
                site.errand.kill(name)
                await asyncio.sleep(down_seconds)
                site.errand.start(name)
