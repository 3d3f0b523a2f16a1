"""Stores for tests, on both databases, and rows to put in."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bot.states import TaskState
from bot.store.engine import Store
from bot.store.rows import CommandRow, OutboxRow, RunRow, TaskRow
from integrations.channel import Conversation, Inbound
from runner.protocol import EventRecord, RunKey, Said
from tests.support.postgres import PostgresServer, postgres_database, postgres_server

__all__ = [
    "HERE",
    "NOW",
    "a_command",
    "a_message",
    "a_run",
    "a_task",
    "an_event",
    "an_inbound",
    "at",
    "empty_url",
    "postgres_database",
    "postgres_server",
    "postgres_store",
    "postgres_template",
    "sqlite_template",
    "store",
    "store_url",
]

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
HERE = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread="1.1")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


def _migrate(url: str) -> None:
    """In a thread, because the test's own loop may be there already."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, Store(url).upgrade()).result()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "errand.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    name = postgres_server.create_database()
    _migrate(postgres_server.url(name))
    return name


def _fresh(request: pytest.FixtureRequest, *, template: str) -> str:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(template=template)
    request.addfinalizer(lambda: server.drop_database(name))
    return server.url(name)


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'errand.db'}"
    return _fresh(request, template="template1")


@pytest.fixture(params=DATABASES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the newest schema."""
    if request.param == "sqlite":
        path = tmp_path / "errand.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    return _fresh(request, template=request.getfixturevalue("postgres_template"))


@pytest.fixture
async def postgres_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A PostgreSQL database with the newest schema."""
    template: str = request.getfixturevalue("postgres_template")
    store = Store(_fresh(request, template=template))
    yield store
    await store.close()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = Store(store_url)
    yield store
    await store.close()


def an_inbound(n: int = 1, **changes: Any) -> Inbound:
    values = {
        "event_id": f"Ev{n}",
        "semantic_key": f"T0ACME/C0WEB/{n}",
        "conversation": HERE,
        "message_id": f"{n}.0",
        "author": "slack:U0DANA",
        "author_name": "dana",
        "text": "fix the login test",
        "addressed": True,
        "received_at": NOW,
    }
    return Inbound.model_validate({**values, **changes})


def a_task(n: int = 1, **changes: Any) -> TaskRow:
    values = {
        "id": f"01task{n:06}",
        "origin": f"slack:T0ACME/C0WEB/{n}",
        "conversation": HERE,
        "message_id": f"{n}.0",
        "requester": "slack:U0DANA",
        "requester_name": "dana",
        "title": "Fix the login test",
        "link": "",
        "forge": "github",
        "repo": "acme/web",
        "repo_reason": "default of #web",
        "branch": f"errand/01task{n:06}-fix",
        "prompt": "fix the login test",
        "grant": {"repo": "acme/web", "limits": {"cost_usd": 5.5}},
        "policy_hash": "p" * 64,
        "state": TaskState.QUEUED,
        "fence": 0,
        "round": 1,
        "attempts": 0,
        "pull_url": "",
        "reason": "",
        "created_at": at(n),
        "changed_at": at(n),
        "ended_at": None,
    }
    return TaskRow.model_validate({**values, **changes})


def a_run(task: str, fence: int = 1, **changes: Any) -> RunRow:
    values = {
        "task": task,
        "fence": fence,
        "round": 1,
        "host": "",
        "agent": "",
        "image": "",
        "image_digest": "",
        "base_commit": "",
        "policy_hash": "p" * 64,
        "queued_at": NOW,
        "started_at": None,
        "ended_at": None,
        "outcome": "",
        "reason": "",
        "view": {},
    }
    return RunRow.model_validate({**values, **changes})


def an_event(task: str, seq: int, **changes: Any) -> EventRecord:
    values = {
        "run": RunKey(task=task, fence=1),
        "source": "agent",
        "seq": seq,
        "at": at(seq),
        "event": Said(text=f"said {seq}"),
    }
    return EventRecord.model_validate({**values, **changes})


def a_message(seq: str = "1", **changes: Any) -> OutboxRow:
    values = {
        "id": str(uuid4()),
        "task": "01task000001",
        "conversation": HERE,
        "kind": "notice",
        "seq": seq,
        "version": 1,
        "payload": {"kind": "notice", "text": "On it.", "error": False},
        "urgent": False,
        "state": "pending",
        "tries": 0,
        "next_at": NOW,
        "claim_until": None,
        "first_claim_at": None,
        "remote_id": "",
        "sent_version": 0,
        "error": "",
        "created_at": NOW,
    }
    return OutboxRow.model_validate({**values, **changes})


def a_command(n: int, task: str, **changes: Any) -> CommandRow:
    values = {
        "id": f"command-{n}",
        "task": task,
        "fence": 1,
        "kind": "steer",
        "text": f"and also {n}",
        "author": "slack:U0DANA",
        "state": "pending",
        "created_at": NOW,
        "sent_at": None,
    }
    return CommandRow.model_validate({**values, **changes})
