"""Many updates, a slow Slack: what is sent, and in which order."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from bot.outbox import Outbox
from bot.said import show_card
from bot.states import TaskState
from bot.store import tasks
from bot.tasks import end_round
from integrations.channel import Conversation, Final
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.pace import USUAL_SECONDS
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from tests.contract.flow.office import Office, send_due
from tests.support.builders import a_task
from tests.support.slack_api import APP_TOKEN, BOT_TOKEN, SlackApi, slack_api


@pytest.fixture
async def api(office: Office) -> AsyncIterator[SlackApi]:
    async with slack_api() as running:
        running.clock = office.clock.seconds
        yield running


@pytest.fixture
async def outbox(office: Office, api: SlackApi) -> AsyncIterator[Outbox]:
    config = SlackConfig(
        bot_token=SecretStr(BOT_TOKEN), app_token=SecretStr(APP_TOKEN), api_url=api.url
    )
    channel = SlackChannel(
        config,
        front=FakeFront(),
        workspaces=OneWorkspace(SlackClient(config)),
        clock=office.clock.seconds,
    )
    yield Outbox(
        store=office.store,
        channels={"slack": channel},
        spoken=office.spoken,
        standing=office.standing,
        buckets=office.buckets,
        now=office.clock.now,
    )
    await channel.close()


async def begun(office: Office, api: SlackApi) -> str:
    root = api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    here = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=root)
    row = a_task(
        state=TaskState.RUNNING, conversation=here, message_id=root, requester="slack:U0DANA"
    )
    async with office.store.begin() as tx:
        await tasks.insert(tx, row)
    return row.id


async def show(office: Office, task_id: str, note: str) -> None:
    async with office.store.begin() as tx:
        task = await tasks.get(tx, task_id)
        assert task is not None
        await show_card(tx, task, now=office.clock.now(), note=note)


async def end(office: Office, task_id: str, word: Final) -> None:
    now = office.clock.now()
    async with office.store.begin() as tx:
        await tasks.move(
            tx, task_id, to=TaskState.FAILED, old=[TaskState.RUNNING], changed_at=now, ended_at=now
        )
        await end_round(tx, task_id, word, now=now)


async def drain(outbox: Outbox) -> None:
    while await send_due(outbox):
        pass


@pytest.mark.parametrize("apart", [5, 20])
async def test_a_slow_slack_costs_one_update_and_the_card_ends_right(
    office: Office, api: SlackApi, outbox: Outbox, *, apart: int
) -> None:
    api.paces["chat.update"] = apart
    task = await begun(office, api)
    for second in range(60):
        await show(office, task, f"step {second}")
        await drain(outbox)
        office.clock.forward(1)
    await end(office, task, Final(outcome="failed", text="no", person="slack:U0DANA"))
    for _ in range(2 * apart):
        await drain(outbox)
        office.clock.forward(1)

    assert api.limited.count("chat.update") <= 1
    updates = [args for name, args in api.calls if name == "chat.update"]
    assert len(updates) <= 15
    _, card, *rest = api.messages["C0WEB"]
    assert "failed" in str(card["text"])
    assert len(rest) == 1


async def test_the_last_word_goes_before_progress(
    office: Office, api: SlackApi, outbox: Outbox
) -> None:
    api.paces["chat.update"] = 30
    task = await begun(office, api)
    await show(office, task, "one")
    await drain(outbox)
    office.clock.forward(3)
    await show(office, task, "two")
    await drain(outbox)
    await end(office, task, Final(outcome="failed", text="no", person="slack:U0DANA"))
    await drain(outbox)

    sent = [name for name, _ in api.calls if name in {"chat.postMessage", "chat.update"}]
    assert sent[-1] == "chat.postMessage" or sent.index("chat.postMessage", 1) < len(sent) - 1
    assert "no" in str(api.messages["C0WEB"][-1]["text"])


async def test_a_pace_that_was_too_fast_is_forgotten_after_a_while(
    office: Office, api: SlackApi, outbox: Outbox
) -> None:
    api.paces["chat.update"] = 15
    task = await begun(office, api)
    for second in range(32):
        await show(office, task, f"step {second}")
        await drain(outbox)
        office.clock.forward(1)
    channel = outbox.channels["slack"]
    assert channel.edit_seconds > USUAL_SECONDS
    office.clock.forward(301)
    assert channel.edit_seconds == USUAL_SECONDS


async def test_a_busy_errand_makes_a_dozen_calls_a_minute_at_most(
    office: Office, api: SlackApi, outbox: Outbox
) -> None:
    task = await begun(office, api)
    api.calls.clear()
    for second in range(60):
        await show(office, task, f"step {second}")
        await drain(outbox)
        office.clock.forward(1)
    assert len(api.calls) <= 12


async def test_where_the_channel_is_gone_the_last_word_goes_to_who_asked(
    office: Office, api: SlackApi, outbox: Outbox
) -> None:
    task = await begun(office, api)
    await show(office, task, "one")
    await drain(outbox)
    api.closed["C0WEB"] = "is_archived"
    await end(office, task, Final(outcome="failed", text="no", person="slack:U0DANA"))
    await drain(outbox)

    [told] = api.messages["D0DANA"]
    assert "no longer write where you asked" in str(told["text"])
