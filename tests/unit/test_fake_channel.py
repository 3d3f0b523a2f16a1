import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from integrations.channel import Conversation, Inbound, Mark, Notice
from integrations.errors import UnavailableError
from integrations.testing import FakeChannel

HERE = Conversation(channel="fake", place="room", thread="1")
AWAY = UnavailableError("fake", "away")
SINCE = datetime.now(UTC) - timedelta(hours=1)


async def test_a_fault_before_leaves_no_trace() -> None:
    channel = FakeChannel()
    channel.fail(AWAY)
    with pytest.raises(UnavailableError):
        await channel.post(HERE, Notice(text="x"), key="k")
    assert await channel.find(HERE, key="k", since=SINCE) is None


async def test_a_fault_after_leaves_the_message() -> None:
    channel = FakeChannel()
    channel.fail(AWAY, after=True, times=2)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await channel.post(HERE, Notice(text="x"), key="k")
    assert await channel.find(HERE, key="k", since=SINCE) == "1"
    assert channel.calls == ["post", "post", "find"]


async def test_one_can_wait_for_what_is_said() -> None:
    channel = FakeChannel()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(channel.said(Notice, seconds=5))
        await channel.post(HERE, Notice(text="x"), key="k")
    assert waiting.result() == Notice(text="x")
    with pytest.raises(TimeoutError):
        await channel.until(lambda: False, seconds=0.01)


async def test_marks_say_what_is_there() -> None:
    channel = FakeChannel()
    await channel.mark(HERE, "1", Mark.SEEN, present=True)
    await channel.mark(HERE, "1", Mark.DONE, present=True)
    await channel.mark(HERE, "1", Mark.SEEN, present=False)
    assert channel.marks[HERE.key, "1"] == {Mark.DONE}


async def test_what_is_delivered_is_received() -> None:
    channel, got = FakeChannel(), asyncio.Queue[Inbound]()

    async def receive(inbound: Inbound) -> bool:
        got.put_nowait(inbound)
        return True

    said = Inbound(
        event_id="1", semantic_key="1", conversation=HERE, message_id="1", author="fake:dana",
        author_name="dana", text="hi", addressed=True, received_at=SINCE,
    )  # fmt: skip
    channel.deliver(said)
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(channel.listen(receive))
        assert await asyncio.wait_for(got.get(), timeout=5) == said
        listening.cancel()
