"""Our side of Linear in tests: the channel, installed in the stand-in's workspace, with its routes on a port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from bot.settings import HttpSettings
from bot.web import create_app, serve_http
from integrations.channel import Conversation, Inbound, Receive
from integrations.linear.channel import LinearChannel
from integrations.linear.config import LinearConfig
from integrations.linear.oauth import Granted
from integrations.testing_notes import MemoryNotes
from tests.support.linear.entities import Issue, Session
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET, TOKEN
from tests.support.linear.server import LinearApi
from tests.support.linear.webhooks import SECRET
from tests.support.ports import free_port

PAGE = "http://errand.example"


@dataclass(slots=True)
class Clock:
    """Real time, and what a test has moved it by."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(slots=True, kw_only=True)
class Site:
    """A replica of `errand serve`, as far as Linear is concerned."""

    linear: LinearApi
    channel: LinearChannel
    notes: MemoryNotes
    clock: Clock
    inbounds: list[Inbound] = field(default_factory=list)
    fails: Exception | None = None
    """What storing a delivery raises."""
    url: str = ""

    async def receive(self, inbound: Inbound) -> bool:
        if self.fails is not None:
            raise self.fails
        new = all(
            inbound.event_id != one.event_id and inbound.semantic_key != one.semantic_key
            for one in self.inbounds
        )
        if new:
            self.inbounds.append(inbound)
        return new

    async def install(self) -> None:
        granted = Granted(access_token=TOKEN, refresh_token="", expires_in=80_000)
        await self.channel._workspaces.install(granted)

    def conversation(self, session: Session) -> Conversation:
        return self.about(session.issue, session.id)

    def about(self, issue: Issue, thread: str) -> Conversation:
        organization = self.linear.world.organization.id
        return Conversation(
            channel="linear", team=organization, place=issue.team.key, thread=thread
        )

    async def delegated(self, title: str = "Fix it", **more: Any) -> Session:
        """A ticket that Dana has handed over; nobody is told by webhook."""
        return await self.linear.people.delegate(self.linear.world.issue(title, **more))


def config(linear: LinearApi, **more: Any) -> LinearConfig:
    known: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "client_secret": SecretStr(CLIENT_SECRET),
        "webhook_secret": SecretStr(SECRET),
        "api_url": linear.url,
        "authorize_url": f"{linear.url}/oauth/authorize",
    }
    return LinearConfig(**(known | more))


@asynccontextmanager
async def site_for(
    linear: LinearApi, *, notes: MemoryNotes | None = None, public_url: str = PAGE, **more: Any
) -> AsyncIterator[Site]:
    """Not installed yet."""
    kept, clock = notes or MemoryNotes(), Clock()
    channel = LinearChannel(config(linear, **more), notes=kept, public_url=public_url, now=clock)
    try:
        yield Site(linear=linear, channel=channel, notes=kept, clock=clock)
    finally:
        await channel.close()


@asynccontextmanager
async def listening(
    site: Site, *, port: int | None = None, receive: Receive | None = None
) -> AsyncIterator[Site]:
    """Its routes on a port; the stand-in's webhooks arrive there."""
    router = site.channel.routes(receive or site.receive)
    assert router is not None
    settings = HttpSettings(port=port or free_port())
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve_http(create_app([router]), settings))
        await asyncio.sleep(0)  # from here on it listens
        site.url = settings.local_url
        site.linear.webhooks.url = f"{site.url}/linear/webhook"
        yield site
        serving.cancel()
