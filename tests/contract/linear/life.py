"""A ticket's whole way through `serve`: webhook, inbox, desk, outbox, Linear. What a run would do is told by the test."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text
from typing_extensions import override

from bot.completion import Completer
from bot.desk import Desk
from bot.in_force import InForce
from bot.intake import Intake, Signal
from bot.outbox import Outbox
from bot.pages import PageLinks
from bot.rate_limits import Buckets
from bot.said import show_card
from bot.standing import Standing
from bot.states import TaskState
from bot.store import commands, inbox, outbox, tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from bot.tasks import end_round
from integrations.channel import Channel, Final
from integrations.linear.channel import LinearChannel
from integrations.linear.graphql import GraphQL
from integrations.tracker import Tracker
from policies.model import Policy
from tests.contract.flow.office import Clock, complete_due, send_due
from tests.contract.linear.site import PAGE, listening, site_for
from tests.support.linear.entities import Session
from tests.support.linear.server import LinearApi

REPO = "acme/web"
PULL = "https://github.com/acme/web/pull/12"
POLICY = Policy.model_validate(
    {
        "version": 1,
        "rules": [
            {
                "who": ["*"], "where": ["linear:ENG"], "repos": [REPO], "agents": ["script"],
                "may": ["start", "steer", "stop"],
            }
        ],
        "repos": {
            REPO: {"forge": "local", "default_for": ["linear:ENG"], "review_state": "In Review"}
        },
    }
)  # fmt: skip
DONE = Final(
    outcome="succeeded", text="The cookie was read too early.", pull_url=PULL, pull_label="#12",
    files=2, added=14, removed=3, elapsed_seconds=242, review_state="In Review",
)  # fmt: skip
PATIENCE_SECONDS = 3600


class Hasty(GraphQL):
    """Does not wait long for an answer."""

    @override
    async def execute(
        self, document: str, variables: dict[str, Any], *, token: str, seconds: float = 0
    ) -> Any:
        return await super().execute(document, variables, token=token, seconds=0.25)


@dataclass(slots=True, kw_only=True)
class Life:
    """`serve`, as far as a ticket meets it. Time passes when everything waits."""

    linear: LinearApi
    channel: LinearChannel
    store: Store
    policy: Policy = POLICY
    clock: Clock = field(default_factory=Clock)
    intake: Intake = field(init=False)
    completer: Completer = field(init=False)
    desk: Desk = field(init=False)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        now, spoken = self.clock.now, Signal()
        channels: dict[str, Channel] = {"linear": self.channel}
        trackers: dict[str, Tracker] = {"linear": self.channel}
        self.intake = Intake(store=self.store, arrived=Signal(), now=now)
        self.completer = Completer(
            store=self.store, channels=channels, trackers=trackers, in_force=InForce(self.policy),
            partial=self.intake.partial, arrived=self.intake.arrived, now=now,
        )  # fmt: skip
        self.desk = Desk(
            store=self.store, in_force=InForce(self.policy), trackers=trackers, now=now, spoken=spoken,
            pages=PageLinks(public_url=PAGE, secret=SecretStr("secret")),
            arrived=self.intake.arrived, queued=Signal(), commanded=Signal(),
        )  # fmt: skip
        self.outbox = Outbox(
            store=self.store, channels=channels, spoken=spoken,
            standing=Standing(store=self.store, now=now),
            buckets=Buckets(now=now), now=now,
        )  # fmt: skip

    async def settle(self) -> None:
        """Let everything have its turn until nothing waits any more."""
        waited = 0
        while await self._waits():
            if not await self._step():
                self.clock.forward(4)
                waited += 4
            assert waited < PATIENCE_SECONDS, "something waits for ever"

    async def _step(self) -> int:
        return (
            await complete_due(self.completer)
            + await self.desk.work_off()
            + await send_due(self.outbox)
        )

    async def _waits(self) -> bool:
        async with self.store.read() as conn:
            return await inbox.backlog(conn) > 0 or await outbox.next_due(conn) is not None

    async def tasks(self) -> list[TaskRow]:
        async with self.store.read() as conn:
            return await tasks.listing(conn)

    async def task(self) -> TaskRow:
        [task] = await self.tasks()
        return task

    async def runs(self) -> None:
        """A run has begun, and something changes on its card."""
        for state in (TaskState.STARTING, TaskState.RUNNING):
            task = await self._put(state)
            async with self.store.begin() as tx:
                await show_card(tx, task, now=self.clock.now(), note=f"{state}…")
            await self.settle()

    async def ends(self, word: Final = DONE) -> None:
        task = await self._put(TaskState.SUCCEEDED)
        async with self.store.begin() as tx:
            await end_round(tx, task.id, word, now=self.clock.now())
        await self.settle()

    async def _put(self, state: TaskState) -> TaskRow:
        task = await self.task()
        async with self.store.begin() as tx:
            changes = {"id": task.id, "state": state.value}
            await tx.execute(text("UPDATE task SET state = :state WHERE id = :id"), changes)
        return await self.task()

    async def steered(self) -> list[str]:
        """What the agent is still to hear."""
        async with self.store.read() as conn:
            return [row.text for row in await commands.open_for(conn, (await self.task()).id)]

    async def dead(self) -> list[str]:
        """What was given up."""
        query = text("SELECT error FROM outbox WHERE state = 'dead'")
        async with self.store.read() as conn:
            return list((await conn.execute(query)).scalars())

    async def delegated(self, title: str = "Fix it", description: str = "Soon.") -> Session:
        issue = self.linear.world.issue(title, description=description)
        session = await self.linear.people.delegate(issue)
        await self.settle()
        return session


@asynccontextmanager
async def a_life(linear: LinearApi, *, path: Path, template: Path) -> AsyncIterator[Life]:
    """Linear's webhooks arrive, and its API is asked with little patience."""
    shutil.copy(template, path)
    store = Store(f"sqlite:///{path}")
    async with site_for(linear, mode="client_credentials") as site:
        await site.channel._workspaces.all()
        hasty = Hasty(linear.url)
        site.channel._api._graphql = hasty
        life = Life(linear=linear, channel=site.channel, store=store)
        async with listening(site, receive=life.intake.receive):
            yield life
            linear.release()
        await hasty.close()
    await store.close()
