"""The stand-in for Linear, a client of it, and somebody who receives its webhooks."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.aiohttp import AIOHTTPTransport

from tests.contract.linear.site import Site, listening, site_for
from tests.support.linear.oauth import TOKEN
from tests.support.linear.schema import official_path
from tests.support.linear.server import LinearApi, linear_api

# The official schema is not ours to ship: who has it, compares. In CI somebody must.
collect_ignore = [] if official_path() or os.environ.get("CI") else ["test_schema.py"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """gql, as the adapter uses it."""

    session: AsyncClientSession
    transport: AIOHTTPTransport

    async def __call__(self, document: str, *, token: str = TOKEN, **variables: Any) -> Any:
        request = GraphQLRequest(document, variable_values=variables)
        headers = {"Authorization": f"Bearer {token}" if token.startswith("lin_oauth") else token}
        return await self.session.execute(request, extra_args={"headers": headers})


@asynccontextmanager
async def asker(linear: LinearApi, *, seconds: float = 5) -> AsyncIterator[Asker]:
    transport = AIOHTTPTransport(url=f"{linear.url}/graphql")
    async with Client(transport=transport, execute_timeout=seconds) as session:
        yield Asker(session=session, transport=transport)


@pytest.fixture
async def linear() -> AsyncIterator[LinearApi]:
    async with linear_api() as api:
        yield api


@pytest.fixture
async def ask(linear: LinearApi) -> AsyncIterator[Asker]:
    async with asker(linear) as found:
        yield found


@dataclass(slots=True)
class Receiver:
    """Answers webhooks with `status`, and keeps them as they came."""

    url: str = ""
    status: int = 200
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)


@pytest.fixture
async def receiver(linear: LinearApi) -> AsyncIterator[Receiver]:
    """Linear's webhooks are on, and arrive here."""
    found = Receiver()
    app = web.Application()
    app.router.add_post("/linear", found.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = linear.webhooks.url = f"http://127.0.0.1:{runner.addresses[0][1]}/linear"
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def site(linear: LinearApi) -> AsyncIterator[Site]:
    """Our side, installed; it hears nothing yet."""
    async with site_for(linear) as made:
        await made.install()
        linear.requests.clear()
        yield made


@pytest.fixture
async def heard(site: Site) -> AsyncIterator[Site]:
    """Our side, and Linear's webhooks arrive there."""
    async with listening(site) as serving:
        yield serving
