"""Many errands at once, each with progress all the time: what is asked of Slack, and how old the last word on a card is."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from typing_extensions import override

from bot.intake import Signal
from bot.outbox import Outbox
from bot.rate_limits import Buckets
from bot.said import mark, show_card
from bot.standing import Standing
from bot.states import TaskState
from bot.store import tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from integrations.channel import Card, Conversation, Mark, Reply
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from tests.bench.children import child
from tests.bench.figures import Figure, at_most, sample
from tests.bench.site import CHANNEL
from tests.support.builders import a_task
from tests.support.installation import until
from tests.support.slack_api import BOT_TOKEN, TEAM
from tests.support.slack_payloads import SIGNING_SECRET

ERRANDS = 500
MINUTES = 2
EVERY_SECONDS = 5.0
"""Between two changes of one card."""
BATCH = 50
"""Cards that change in one transaction."""
CALLS = 12.0
LAG_MS = 10_000.0


@dataclass(slots=True)
class Told:
    """What has reached Slack."""

    calls: Counter[str] = field(default_factory=Counter)
    shown: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By conversation: what the card says, and since when."""


class Watched(SlackChannel):
    """Counts its calls."""

    def __init__(self, config: SlackConfig, told: Told) -> None:
        super().__init__(
            config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config)), tickets=True
        )
        self._told = told

    @override
    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        return self._note(conversation, reply, await super().post(conversation, reply, key=key))

    @override
    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        await super().edit(conversation, message_id, reply)
        self._note(conversation, reply, message_id)

    @override
    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        await super().mark(conversation, message_id, mark, present=present)
        self._told.calls[conversation.thread] += 1

    def _note(self, conversation: Conversation, reply: Reply, message_id: str) -> str:
        self._told.calls[conversation.thread] += 1
        if isinstance(reply, Card):
            self._told.shown[conversation.thread] = (reply.doing, time.monotonic())
        return message_id


async def measure(root: Path, console: Console) -> list[Figure]:
    """Slack takes everything at once: what is sent is what we want to send."""
    await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
    store, told = Store(f"sqlite:///{root / 'errand.db'}"), Told()
    async with child("slack") as slack:
        config = SlackConfig(
            bot_token=SecretStr(BOT_TOKEN),
            signing_secret=SecretStr(SIGNING_SECRET),
            api_url=f"http://127.0.0.1:{slack.port}/api/",
        )
        channel = Watched(config, told)
        outbox = Outbox(
            store=store,
            channels={"slack": channel},
            spoken=Signal(),
            standing=Standing(store=store),
            buckets=Buckets(),
        )
        try:
            await store.upgrade()
            crowd = await _begun(store)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(outbox.run())
                written = await _work(store, crowd, outbox.spoken)
                calls = [float(told.calls[task.conversation.thread]) for task in crowd]
                lags = await _lags(told, written)
                sending.cancel()
        finally:
            await channel.close()
            await store.close()
    console.log(f"crowd: {len(crowd)} errands for {MINUTES} minutes")
    return _figures([n / MINUTES for n in calls], lags)


async def _begun(store: Store) -> list[TaskRow]:
    crowd = [
        a_task(
            id=f"01crowd{n:04}", origin=f"slack:{n}", state=TaskState.RUNNING, message_id=f"17321{n:05}.000100",
            conversation=Conversation(channel="slack", team=TEAM, place=CHANNEL, thread=f"17321{n:05}.000100"),
            requester="slack:U0DANA",
        )
        for n in range(ERRANDS)
    ]  # fmt: skip
    async with store.begin() as tx:
        for task in crowd:
            await tasks.insert(tx, task)
            await mark(tx, task, Mark.SEEN, present=True, now=datetime.now(UTC))
    return crowd


async def _work(
    store: Store, crowd: Sequence[TaskRow], spoken: Signal
) -> dict[str, tuple[str, float]]:
    """Change every card, evenly spread over time; what each says in the end, and since when."""
    written: dict[str, tuple[str, float]] = {}
    begun, turn = time.monotonic(), 0
    while time.monotonic() - begun < MINUTES * 60:
        for number, batch in enumerate(_batches(crowd)):
            due = begun + EVERY_SECONDS * (turn + number * BATCH / len(crowd))
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            async with store.begin() as tx:
                for task in batch:
                    await show_card(tx, task, now=datetime.now(UTC), note=f"step {turn}")
            spoken.set()
            for task in batch:
                written[task.conversation.thread] = (f"step {turn}", time.monotonic())
        turn += 1
    return written


def _batches(crowd: Sequence[TaskRow]) -> Iterator[Sequence[TaskRow]]:
    return (crowd[at : at + BATCH] for at in range(0, len(crowd), BATCH))


async def _lags(told: Told, written: dict[str, tuple[str, float]]) -> list[float]:
    """From the last change of a card until Slack had it, in milliseconds."""

    async def look() -> bool:
        return all(
            told.shown.get(thread, ("", 0))[0] == note for thread, (note, _) in written.items()
        )

    await until(look, seconds=120, what="every card says the last word")
    return [1000 * (told.shown[thread][1] - at) for thread, (_, at) in written.items()]


def _figures(calls: Sequence[float], lags: Sequence[float]) -> list[Figure]:
    asked = sample("reactions, posts and edits", calls)
    late = sample("from the change to Slack's answer", lags)
    note = f"{ERRANDS} errands, each card changed every {EVERY_SECONDS:g} s for {MINUTES} min"
    return [
        Figure(
            name=f"calls of Slack per errand and minute, {ERRANDS} at once",
            unit="1/min",
            ours=asked,
            aims=(at_most(f"p99 ≤ {CALLS:g}", asked.p99, CALLS),),
            note=note,
        ),
        Figure(
            name=f"last change → on the card, {ERRANDS} at once",
            unit="ms",
            ours=late,
            aims=(at_most(f"p95 ≤ {LAG_MS:g} ms", late.p95, LAG_MS),),
            note=note,
        ),
    ]
