"""Slack's deliveries reach the channel over HTTP or over Socket Mode: the same tests for both."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from integrations.channel import Inbound
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from tests.contract.slack.serving import served
from tests.support.slack_api import APP_TOKEN, BOT_TOKEN, SlackApi, slack_api
from tests.support.slack_payloads import SIGNING_SECRET, form, signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Slack got: whether it counts as acknowledged, and with what."""

    ok: bool
    body: dict[str, Any]
    seconds: float


class Line(Protocol):
    """A way for deliveries to come."""

    async def event(self, payload: dict[str, Any]) -> Answer: ...
    async def interaction(self, payload: dict[str, Any]) -> Answer: ...
    async def command(self, fields: dict[str, str]) -> Answer: ...


@dataclass(slots=True, kw_only=True)
class Site:
    """The channel, whoever receives, and the line to it."""

    api: SlackApi
    channel: SlackChannel
    front: FakeFront
    workspaces: OneWorkspace
    stored: list[Inbound] = field(default_factory=list)
    failures: int = 0
    stalls: int = 0
    """So many deliveries are never stored, and never refused."""
    line: Line = field(init=False)

    async def receive(self, inbound: Inbound) -> bool:
        if self.stalls:
            self.stalls -= 1
            await asyncio.Event().wait()
        if self.failures:
            self.failures -= 1
            self.api.changed.set()
            raise ConnectionError("the database is away")
        self.stored.append(inbound)
        return True

    async def clients(self) -> Sequence[SlackClient]:
        return await self.workspaces.clients()

    async def completed(self, inbound: Inbound) -> Inbound:
        return await self.channel.complete(inbound)


@dataclass(slots=True, kw_only=True)
class OverHttp:
    http: httpx.AsyncClient

    async def event(self, payload: dict[str, Any]) -> Answer:
        return await self._post(json.dumps(payload).encode(), "application/json")

    async def interaction(self, payload: dict[str, Any]) -> Answer:
        return await self._post(form(payload), "application/x-www-form-urlencoded")

    async def command(self, fields: dict[str, str]) -> Answer:
        body = str(httpx.QueryParams(fields)).encode()
        return await self._post(body, "application/x-www-form-urlencoded")

    async def _post(self, body: bytes, kind: str) -> Answer:
        began = time.monotonic()
        headers = signed(body, at=time.time(), kind=kind)
        answer = await self.http.post("/slack/events", content=body, headers=headers)
        said = answer.json() if answer.is_success and answer.content else {}
        return Answer(ok=answer.is_success, body=said, seconds=time.monotonic() - began)


@dataclass(slots=True, kw_only=True)
class OverSocket:
    site: Site
    ids: "itertools.count[int]" = field(default_factory=itertools.count)

    async def event(self, payload: dict[str, Any]) -> Answer:
        return await self._send(payload, "events_api")

    async def interaction(self, payload: dict[str, Any]) -> Answer:
        return await self._send(payload, "interactive")

    async def command(self, fields: dict[str, str]) -> Answer:
        return await self._send(dict(fields), "slash_commands")

    async def _send(self, payload: dict[str, Any], kind: str) -> Answer:
        """A failure is no acknowledgement at all: seen as the failure used up."""
        began, name, api = time.monotonic(), f"e{next(self.ids)}", self.site.api
        fails = self.site.failures
        await api.envelope(name, payload, kind=kind)
        await api.until(lambda: name in api.replies_to or self.site.failures < fails)
        await asyncio.sleep(0)
        ok = name in api.replies_to
        body: dict[str, Any] = dict(api.replies_to.get(name, {}))
        return Answer(ok=ok, body=body, seconds=time.monotonic() - began)


@pytest.fixture
async def api() -> AsyncIterator[SlackApi]:
    async with slack_api() as running:
        running.people = {"U0DANA": ("dana", "Dana D."), "U0LEE": ("lee", "Lee L.")}
        yield running


@pytest.fixture(params=["http", "socket"])
async def site(request: pytest.FixtureRequest, api: SlackApi) -> AsyncIterator[Site]:
    over_http = request.param == "http"
    config = SlackConfig(
        bot_token=SecretStr(BOT_TOKEN),
        signing_secret=SecretStr(SIGNING_SECRET) if over_http else None,
        app_token=None if over_http else SecretStr(APP_TOKEN),
        api_url=api.url,
        bots=("U0DEPLOY",),
    )
    front = FakeFront()
    workspaces = OneWorkspace(SlackClient(config))
    channel = SlackChannel(config, front=front, workspaces=workspaces)
    made = Site(api=api, channel=channel, front=front, workspaces=workspaces)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.channel.close)
        if over_http:
            router = made.channel.routes(made.receive)
            assert router is not None
            app = FastAPI()
            app.include_router(router)
            url = await stack.enter_async_context(served(app))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
            made.line = OverHttp(http=http)
        else:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            task = group.create_task(made.channel.listen(made.receive))
            stack.callback(task.cancel)
            await api.until(lambda: bool(api.sockets))
            made.line = OverSocket(site=made)
        yield made
