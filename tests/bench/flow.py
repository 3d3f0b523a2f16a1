"""What `serve` does all day: events of runs into the database, and messages out of it."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bot.apply import Applier
from bot.bus import Bus
from bot.in_force import InForce
from bot.intake import Signal
from bot.outbox import Outbox
from bot.rate_limits import Buckets
from bot.said import say
from bot.standing import Standing
from bot.states import TaskState
from bot.store import outbox, runs, tasks
from bot.store.engine import Store
from integrations.channel import Notice
from integrations.testing import FakeChannel
from runner import keys
from runner.protocol import EventRecord, RunKey, StepStatus, ToolCall
from runner.streams import Streams
from tests.bench.figures import Figure, sample
from tests.bench.parts import parts
from tests.support.builders import POLICY, a_conversation, a_task
from tests.support.store import a_run
from tests.support.valkey import ValkeyServer

RUNS = 20
EVENTS = 4_000
CONVERSATIONS = 100
MESSAGES = 1_000
ROUNDS = 5


async def measure(root: Path, console: Console) -> list[Figure]:
    applied, sent, channel = [], [], FakeChannel()
    async with parts(root) as (store, valkey):
        await _begin(store)
        for number in range(ROUNDS):
            applied.append(await _events_per_second(store, valkey, number))
            sent.append(await _messages_per_second(store, channel, number))
            console.log(f"flow: round {number + 1} of {ROUNDS}")
    return [
        Figure(
            name="events applied per second",
            unit="1/s",
            ours=sample("from the first read to an empty stream, per round", applied),
            note=f"{EVENTS} tool calls of {RUNS} runs wait in Redis; each is stored, and changes a card",
        ),
        Figure(
            name="messages sent per second",
            unit="1/s",
            ours=sample("from the first claim to an empty outbox, per round", sent),
            note=f"{MESSAGES} messages in {CONVERSATIONS} conversations, to a channel that answers at once",
        ),
    ]


def _run(n: int) -> RunKey:
    return RunKey(task=f"01flow{n:04}", fence=1)


async def _begin(store: Store) -> None:
    now = datetime.now(UTC)
    async with store.begin() as tx:
        for n in range(RUNS):
            here = a_conversation(thread=str(n))
            row = a_task(id=_run(n).task, origin=f"fake:{n}", conversation=here, fence=1)
            await tasks.insert(tx, row.model_copy(update={"state": TaskState.RUNNING}))
            await runs.insert(tx, a_run(row.id, queued_at=now, started_at=now))


async def _events_per_second(store: Store, valkey: ValkeyServer, number: int) -> float:
    async with valkey.client() as client:
        streams = Streams(client)
        for n in range(EVENTS):
            await streams.publish(_event(n, number))
        bus = await Bus.open(valkey.url)
        applier = Applier(
            store=store, bus=bus, in_force=InForce(POLICY), spoken=Signal(), finished=Signal(), queued=Signal()
        )  # fmt: skip
        await bus.prepare_events()
        begun = time.perf_counter()
        while await client.xlen(keys.EVENTS):
            await applier.step(pending=False)
        seconds = time.perf_counter() - begun
        await bus.close()
    return EVENTS / seconds


def _event(n: int, number: int) -> EventRecord:
    call = ToolCall(id=str(n), title=f"npm test {n}", status=StepStatus.RUNNING)
    seq = number * EVENTS + n
    return EventRecord(
        run=_run(n % RUNS), source="agent", seq=seq, at=datetime.now(UTC), event=call
    )


async def _messages_per_second(store: Store, channel: FakeChannel, number: int) -> float:
    """What the events had to say on cards is sent before."""
    sender = Outbox(
        store=store, channels={"fake": channel}, spoken=Signal(), standing=Standing(store=store),
        buckets=Buckets(),
    )  # fmt: skip
    sending = asyncio.create_task(sender.run())
    await _emptied(store)
    now = datetime.now(UTC)
    async with store.begin() as tx:
        for n in range(MESSAGES):
            here = a_conversation(thread=f"m{n % CONVERSATIONS}")
            await say(tx, here, Notice(text=f"message {n}"), seq=f"{number}:{n}", now=now)
    begun = time.perf_counter()
    sender.spoken.set()
    await _emptied(store)
    seconds = time.perf_counter() - begun
    sending.cancel()
    return MESSAGES / seconds


async def _emptied(store: Store) -> None:
    async with asyncio.timeout(120):
        while True:
            async with store.read() as conn:
                if await outbox.next_due(conn) is None:
                    return
            await asyncio.sleep(0.01)
