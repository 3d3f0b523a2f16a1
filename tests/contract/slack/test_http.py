"""Slack's deliveries over real HTTP, signed as Slack signs them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from integrations.channel import Inbound
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from tests.contract.slack.serving import served
from tests.support.slack_api import BOT_TOKEN, Fault, SlackApi, slack_api
from tests.support.slack_payloads import SIGNING_SECRET, payload, signed


@dataclass(slots=True)
class Inbox:
    """A `receive` that stores, or fails as long as it is told to."""

    stored: list[Inbound] = field(default_factory=list)
    failures: int = 0
    commit: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.commit.set()

    async def receive(self, inbound: Inbound) -> bool:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")
        await self.commit.wait()
        self.stored.append(inbound)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    api: SlackApi
    inbox: Inbox
    http: httpx.AsyncClient

    async def deliver(self, name: str, **headers: str) -> httpx.Response:
        body = json.dumps(payload(name)).encode()
        return await self.post(body, signed(body, at=time.time()) | headers)

    async def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await self.http.post("/slack/events", content=body, headers=headers)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with slack_api() as api:
        config = SlackConfig(
            bot_token=SecretStr(BOT_TOKEN),
            signing_secret=SecretStr(SIGNING_SECRET),
            api_url=api.url,
        )
        channel = SlackChannel(
            config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config))
        )
        inbox = Inbox()
        router = channel.routes(inbox.receive)
        assert router is not None
        app = FastAPI()
        app.include_router(router)
        async with served(app) as url, httpx.AsyncClient(base_url=url) as http:
            yield Running(api=api, inbox=inbox, http=http)
        await channel.close()


async def test_a_delivery_is_stored_and_acknowledged(running: Running) -> None:
    response = await running.deliver("app_mention")

    assert response.status_code == 200
    [inbound] = running.inbox.stored
    assert inbound.text == "the login test is flaky since Monday, please fix"
    assert inbound.link.startswith("https://acme.example/archives/")


async def test_the_answer_comes_only_after_the_commit(running: Running) -> None:
    running.inbox.commit.clear()
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(running.deliver("app_mention"))
        done, _ = await asyncio.wait([delivery], timeout=0.2)
        assert not done
        running.inbox.commit.set()
    assert delivery.result().status_code == 200


async def test_what_could_not_be_stored_is_delivered_again(running: Running) -> None:
    running.inbox.failures = 1

    first = await running.deliver("app_mention")
    again = await running.deliver("app_mention", **{"x-slack-retry-num": "1"})

    assert (first.status_code, again.status_code) == (500, 200)
    assert "x-slack-no-retry" not in first.headers
    assert len(running.inbox.stored) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"x-slack-signature": "v0=" + "0" * 64},
        {"x-slack-signature": ""},
        {"x-slack-request-timestamp": "now"},
        {"x-slack-request-timestamp": "1"},
        {"x-slack-request-timestamp": ""},
    ],
    ids=str,
)
async def test_a_bad_signature_stores_nothing(running: Running, headers: dict[str, str]) -> None:
    response = await running.deliver("app_mention", **headers)

    assert response.status_code == 401
    assert running.inbox.stored == []


async def test_unsigned_garbage_is_not_parsed(running: Running) -> None:
    for body in (b"{broken", b"\xff\xfe", b"", b"[]", b"ssl_check=1"):
        response = await running.post(body, {"content-type": "application/json"})
        assert response.status_code == 401


async def test_a_body_that_slack_would_never_send_is_refused(running: Running) -> None:
    body = b" " * 1_000_001
    response = await running.post(body, signed(body, at=time.time()))
    assert response.status_code == 413


@pytest.mark.parametrize(
    "name",
    ["app_rate_limited", "block_actions", "message_bot", "message_deleted"],
)
async def test_what_we_have_no_use_for_is_acknowledged(running: Running, name: str) -> None:
    response = await running.deliver(name)

    assert response.status_code == 200
    assert running.inbox.stored == []


async def test_the_challenge_of_a_signed_request_is_answered(running: Running) -> None:
    response = await running.deliver("url_verification")
    assert response.json()["challenge"] == payload("url_verification")["challenge"]

    refused = await running.deliver("url_verification", **{"x-slack-signature": "v0=0"})
    assert refused.status_code == 401


async def test_a_shape_we_do_not_know_raises_an_alarm_and_no_retry(running: Running) -> None:
    body = json.dumps(payload("app_mention", ts="soon")).encode()

    with structlog.testing.capture_logs() as logs:
        response = await running.post(body, signed(body, at=time.time()))

    assert response.status_code == 400
    assert response.headers["x-slack-no-retry"] == "1"
    assert [line["event"] for line in logs] == ["slack_payload_malformed"]


async def test_who_we_are_is_asked_once(running: Running) -> None:
    for _ in range(3):
        await running.deliver("app_mention")

    assert [name for name, _ in running.api.calls] == ["auth.test"]


async def test_logs_hold_nothing_that_people_said(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with structlog.testing.capture_logs() as logs:
        await running.deliver("app_mention")
        await running.deliver("app_mention", **{"x-slack-signature": "v0=0"})

    assert "flaky" not in caplog.text
    assert "flaky" not in repr(logs)


async def test_a_delivery_while_slack_is_away_is_asked_for_again() -> None:
    async with slack_api() as api:
        api.fail("auth.test", Fault(status=503), times=2)
        config = SlackConfig(
            bot_token=SecretStr(BOT_TOKEN),
            signing_secret=SecretStr(SIGNING_SECRET),
            api_url=api.url,
        )
        channel, inbox, app = (
            SlackChannel(config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config))),
            Inbox(),
            FastAPI(),
        )
        router = channel.routes(inbox.receive)
        assert router is not None
        app.include_router(router)
        async with served(app) as url, httpx.AsyncClient(base_url=url) as http:
            running = Running(api=api, inbox=inbox, http=http)
            statuses = [(await running.deliver("app_mention")).status_code for _ in range(2)]
        await channel.close()

    assert statuses == [500, 200]
    assert len(inbox.stored) == 1


def test_without_a_signing_secret_there_is_no_route() -> None:
    config = SlackConfig(bot_token=SecretStr("x"), app_token=SecretStr("x"))
    assert (
        SlackChannel(
            config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config))
        ).routes(Inbox().receive)
        is None
    )
