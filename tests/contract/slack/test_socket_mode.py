"""Slack's deliveries over Socket Mode."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from integrations.channel import Inbound
from integrations.slack.arrivals import Arrivals
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.ingress import bolt_app
from integrations.slack.socket import listen
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from integrations.testing_notes import MemoryNotes
from tests.support.site import until
from tests.support.slack_api import APP_TOKEN, BOT_TOKEN, Fault, SlackApi, slack_api
from tests.support.slack_payloads import SIGNING_SECRET, payload


class Inbox:
    def __init__(self, api: SlackApi) -> None:
        self.api = api
        self.stored: list[Inbound] = []
        self.refused = 0
        self.failures = 0

    async def receive(self, inbound: Inbound) -> bool:
        if self.failures:
            self.failures -= 1
            self.refused += 1
            self.api.changed.set()
            raise ConnectionError("the database is away")
        self.stored.append(inbound)
        return True


@pytest.fixture
async def api() -> AsyncIterator[SlackApi]:
    async with slack_api() as running:
        yield running


@pytest.fixture
def config(api: SlackApi) -> SlackConfig:
    return SlackConfig(
        bot_token=SecretStr(BOT_TOKEN), app_token=SecretStr(APP_TOKEN), api_url=api.url
    )


@asynccontextmanager
async def listening(config: SlackConfig, inbox: Inbox) -> AsyncIterator[None]:
    channel = SlackChannel(config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config)))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(channel.listen(inbox.receive))
        await inbox.api.until(lambda: bool(inbox.api.sockets))
        yield
        task.cancel()
    await channel.close()


async def test_a_delivery_is_stored_and_acknowledged(api: SlackApi, config: SlackConfig) -> None:
    inbox = Inbox(api)
    async with listening(config, inbox):
        await api.envelope("e1", payload("app_mention"))
        await api.until(lambda: api.acks == ["e1"])

    assert [inbound.event_id for inbound in inbox.stored] == ["Ev0MENTION01"]


async def test_what_could_not_be_stored_is_not_acknowledged(
    api: SlackApi, config: SlackConfig
) -> None:
    inbox = Inbox(api)
    inbox.failures = 1
    async with listening(config, inbox):
        await api.envelope("e1", payload("app_mention"))
        await api.until(lambda: inbox.refused == 1)
        await api.envelope("e2", payload("app_mention"))
        await api.until(lambda: bool(api.acks))

    assert api.acks == ["e2"]
    assert len(inbox.stored) == 1


@pytest.mark.parametrize("name", ["message_deleted", "message_own", "block_actions"])
async def test_what_we_have_no_use_for_is_acknowledged(
    api: SlackApi, config: SlackConfig, name: str
) -> None:
    inbox = Inbox(api)
    async with listening(config, inbox):
        await api.envelope("e1", payload(name))
        await api.until(lambda: api.acks == ["e1"])

    assert inbox.stored == []


async def test_when_slack_renews_the_connection_listening_goes_on(
    api: SlackApi, config: SlackConfig
) -> None:
    inbox = Inbox(api)
    async with listening(config, inbox):
        await api.sockets[0].send_str('{"type": "disconnect", "reason": "refresh_requested"}')
        await api.until(lambda: len(api.sockets) == 2)
        await api.envelope("e1", payload("app_mention"))
        await api.until(lambda: api.acks == ["e1"])


@asynccontextmanager
async def impatient(
    api: SlackApi, config: SlackConfig, told: Callable[[bool], None]
) -> AsyncIterator[None]:
    """Listening that gives a dead connection up soon."""
    inbox, client = Inbox(api), SlackClient(config)
    arrivals = Arrivals(
        config=config,
        workspaces=OneWorkspace(client),
        front=FakeFront(),
        receive=inbox.receive,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            listen(
                bolt_app(arrivals, api_url=api.url),
                app_token=APP_TOKEN,
                web=client.web(),
                told=told,
                ping_seconds=0.05,
                patience_seconds=0.3,
            )
        )
        yield
        task.cancel()
    await client.close()


async def test_an_address_that_leads_nowhere_is_given_up(
    api: SlackApi, config: SlackConfig
) -> None:
    api.dead_sockets = 1
    told: list[bool] = []
    async with impatient(api, config, told.append):
        await api.until(lambda: bool(api.sockets))
        assert not any(told)
        await until(lambda: told[-1])

    # Once more between the two, for the reason.
    assert [name for name, _ in api.calls].count("apps.connections.open") == 3


async def test_a_token_that_is_refused_is_named_as_the_reason(
    api: SlackApi, config: SlackConfig
) -> None:
    api.fail("apps.connections.open", Fault(code="invalid_auth"), times=1000)
    with capture_logs() as logs:
        async with impatient(api, config, lambda _: None):
            await until(lambda: "slack_socket_given_up" in {line["event"] for line in logs})
    [said] = [line for line in logs if line["event"] == "slack_socket_given_up"]
    assert "ERRAND_SLACK__APP_TOKEN" in said["reason"]


async def test_whether_there_is_a_connection_to_keep_is_known(config: SlackConfig) -> None:
    webhooks = config.model_copy(update={"app_token": None})
    for given, connected in ((webhooks, None), (config, False)):
        channel = SlackChannel(
            given, front=FakeFront(), workspaces=OneWorkspace(SlackClient(given))
        )
        assert channel.connected is connected
        await channel.close()


async def test_without_an_app_token_there_is_nothing_to_listen_to(api: SlackApi) -> None:
    config = SlackConfig(
        bot_token=SecretStr(BOT_TOKEN), signing_secret=SecretStr(SIGNING_SECRET), api_url=api.url
    )
    await SlackChannel(
        config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config))
    ).listen(Inbox(api).receive)
    assert api.calls == []


async def test_whoever_listens_looks_for_what_was_missed(
    api: SlackApi, config: SlackConfig
) -> None:
    inbox, notes = Inbox(api), MemoryNotes()
    await notes.put("slack:cursor:T0ACME", datetime.now(UTC).isoformat())
    asked = f"{time.time() - 60:.6f}"
    api.messages["C0WEB"].append(
        {"ts": asked, "thread_ts": asked, "text": "<@U0ERRAND> fix it", "user": "U0DANA"}
    )
    channel = SlackChannel(
        config.model_copy(update={"history_calls_a_minute": 6000}),
        front=FakeFront(),
        workspaces=OneWorkspace(SlackClient(config)),
        notes=notes,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(channel.listen(inbox.receive))
        await api.until(lambda: bool(api.sockets))
        await until(lambda: bool(inbox.stored))
        task.cancel()
    await channel.close()
    assert [one.message_id for one in inbox.stored] == [asked]
