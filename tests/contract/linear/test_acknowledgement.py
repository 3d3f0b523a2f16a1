"""Whatever Linear's types allow is answered, and what is acknowledged is stored: over HTTP, on a real database."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import event, given
from hypothesis import strategies as st
from sqlalchemy import text

from bot.intake import Intake, Signal
from bot.store.engine import Store
from bot.store.errors import StoreUnavailableError
from bot.web import create_app
from integrations.channel import Inbound
from integrations.errors import MalformedPayloadError
from integrations.linear.channel import LinearChannel
from integrations.linear.events import Arrival, Installation, parse_event
from integrations.linear.workspaces import PREFIX, Workspace
from integrations.testing_notes import MemoryNotes
from tests.contract.linear.site import PAGE, config
from tests.support.linear.oauth import CLIENT_ID
from tests.support.linear.server import LinearApi
from tests.support.linear.webhooks import SECRET, sign
from tests.support.linear_payloads import APP_USER, ORGANIZATION, bodies

pytestmark = pytest.mark.timeout(120)

NOWHERE = LinearApi(url="http://127.0.0.1:9")
US = Installation(organization_id=ORGANIZATION, app_user_id=APP_USER, app_name="errand")
OURS = Workspace(
    organization_id=ORGANIZATION, name="Acme", url_key="acme", app_user_id=APP_USER, app_name="errand",
    team_keys=("ENG",), mode="oauth", client_id=CLIENT_ID, access_token="t",
    refresh_token="", expires_at=datetime(2100, 1, 1, tzinfo=UTC),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """The webhook as `errand serve` has it, and the database behind it."""

    store: Store

    async def app(self, *, broken: bool) -> FastAPI:
        notes = MemoryNotes()
        await notes.put(PREFIX + ORGANIZATION, OURS.model_dump_json())
        channel = LinearChannel(config(NOWHERE), notes=notes, public_url=PAGE)
        intake = Intake(store=self.store, arrived=Signal())

        async def refuse(_: Inbound) -> bool:
            raise StoreUnavailableError("database is locked")

        router = channel.routes(refuse if broken else intake.receive)
        assert router is not None
        return create_app([router])

    async def delivered(self, body: dict[str, Any], delivery: str, *, broken: bool) -> int:
        stamp = int(datetime.now(UTC).timestamp() * 1000)
        raw = json.dumps({**body, "webhookTimestamp": stamp}).encode()
        headers = {"linear-delivery": delivery, "linear-signature": sign(raw, SECRET)}
        # Whatever the route raises and nobody answers is raised here.
        transport = httpx.ASGITransport(app=await self.app(broken=broken))
        async with httpx.AsyncClient(transport=transport, base_url=PAGE) as client:
            answer = await client.post("/linear/webhook", content=raw, headers=headers)
        return answer.status_code

    async def has(self, delivery: str, semantic_key: str) -> bool:
        query = "SELECT count(*) FROM inbox WHERE event_id = :delivery OR semantic_key = :key"
        async with self.store.read() as conn:
            found = await conn.execute(text(query), {"delivery": delivery, "key": semantic_key})
            return bool(found.scalar_one())


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def serve(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Serve]:
    store = Store(f"sqlite:///{tmp_path}/errand.db")
    runner.run(store.upgrade())
    yield Serve(store=store)
    runner.run(store.close())


def meaning(body: dict[str, Any], delivery: str) -> Inbound | None:
    """What it asks for; None where that is nothing, or it can't be read."""
    arrival = Arrival(to=US, delivery_id=delivery, at=datetime.now(UTC))
    try:
        return parse_event(body, arrival)
    except MalformedPayloadError:
        return None


def is_ours(body: dict[str, Any]) -> bool:
    return body.get("appUserId") in {None, APP_USER}


def test_what_is_acknowledged_is_stored(runner: asyncio.Runner, serve: Serve) -> None:
    @given(body=bodies(), broken=st.booleans())
    def check(body: dict[str, Any], *, broken: bool) -> None:
        delivery = str(uuid4())
        meant = meaning(body, delivery) if is_ours(body) else None
        status = runner.run(serve.delivered(body, delivery, broken=broken))
        event(f"{'a request' if meant else 'none'}, {'broken' if broken else 'whole'}: {status}")
        assert status in {200, 400, 503}
        if meant is not None:
            assert status == (503 if broken else 200)
        if meant is not None and not broken:
            assert runner.run(serve.has(delivery, meant.semantic_key))
        if broken:
            assert not runner.run(serve.has(delivery, ""))

    check()


def test_nothing_that_is_unsigned_is_read(runner: asyncio.Runner, serve: Serve) -> None:
    @given(body=bodies())
    def check(body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()

        async def posted() -> int:
            transport = httpx.ASGITransport(app=await serve.app(broken=False))
            async with httpx.AsyncClient(transport=transport, base_url=PAGE) as client:
                answer = await client.post("/linear/webhook", content=raw)
            return answer.status_code

        assert runner.run(posted()) == 401

    check()
