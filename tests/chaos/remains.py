"""What the database, Redis and Docker hold in the end."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import audit, inbox, outbox, tables, tasks
from bot.store.audit import AuditReport
from bot.store.rows import OutboxRow, RunRow, TaskRow
from runner import keys
from tests.chaos.site import Site
from tests.chaos.starts import client_of

ALL = 100_000
ENDS = ("run_finished", "run_lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A delivery."""

    id: int
    source: str
    state: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    id: str
    task: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    at: datetime
    tasks: list[TaskRow]
    runs: list[RunRow]
    said: list[OutboxRow]
    arrived: list[Arrived]
    ends: Counter[str]
    """How often the record says of a run that it ended."""
    record: AuditReport
    leases: Mapping[str, str] = field(default_factory=dict)
    """Who holds them, as `<host>:<fence>`, by task."""
    claims: Mapping[str, list[str]] = field(default_factory=dict)
    """Runs that a host has yet to clean up, by host."""
    hosts: frozenset[str] = frozenset()
    """Those that live."""
    containers: list[Container] = field(default_factory=list)


async def gathered(site: Site) -> Remains:
    async with site.valkey.client() as redis:
        leases = await _texts(redis, keys.lease(""))
        claims = await _sets(redis, keys.mine(""))
        hosts = frozenset(await _texts(redis, keys.host("")))
    async with site.errand.store() as store, store.read() as conn:
        return Remains(
            at=datetime.now(UTC),
            tasks=await tasks.listing(conn, limit=ALL),
            runs=await _runs(conn),
            said=await said(conn),
            arrived=await _arrived(conn),
            ends=await _ends(conn),
            record=await audit.verify(conn),
            leases=leases,
            claims=claims,
            hosts=hosts,
            containers=_containers(site),
        )


async def is_bare(site: Site) -> bool:
    """Nothing is left of what has ended, and nothing has yet to be looked at."""
    if site.errand.containers():
        return False
    async with site.valkey.client() as redis:
        held = await _texts(redis, keys.lease("")) or await _sets(redis, keys.mine(""))
    async with site.errand.store() as store, store.read() as conn:
        return not held and not await inbox.backlog(conn)


async def said(conn: AsyncConnection) -> list[OutboxRow]:
    """All of the outbox, oldest first; of tasks and of none."""
    rows = (await conn.execute(select(tables.outbox).order_by(tables.outbox.c.ordinal))).mappings()
    return [
        OutboxRow.model_validate(
            {name: row[name] for name in OutboxRow.model_fields if name != "urgent"}
            | {"urgent": row["rank"] == outbox.URGENT}
        )
        for row in rows
    ]


async def _runs(conn: AsyncConnection) -> list[RunRow]:
    rows = (await conn.execute(select(tables.run))).mappings()
    return [RunRow.model_validate(dict(row)) for row in rows]


async def _arrived(conn: AsyncConnection) -> list[Arrived]:
    columns = (tables.inbox.c[name] for name in ("id", "source", "state", "error"))
    rows = (await conn.execute(select(*columns).order_by(tables.inbox.c.id))).mappings()
    return [Arrived(**row) for row in rows]


async def _ends(conn: AsyncConnection) -> Counter[str]:
    record = tables.audit
    query = select(record.c.task, record.c.detail).where(record.c.action.in_(ENDS))
    rows = (await conn.execute(query)).all()
    return Counter(f"{task}:{json.loads(detail)['fence']}" for task, detail in rows)


async def _texts(redis: Redis, prefix: str) -> dict[str, str]:
    """Values by what comes after the prefix in their keys."""
    found = {}
    async for key in redis.scan_iter(match=f"{prefix}*"):
        if (value := await redis.get(key)) is not None:
            found[key.decode().removeprefix(prefix)] = value.decode()
    return found


async def _sets(redis: Redis, prefix: str) -> dict[str, list[str]]:
    found = {}
    async for key in redis.scan_iter(match=f"{prefix}*"):
        # Its stubs don't know which client they are for.
        members = await redis.smembers(key)  # type: ignore[misc]
        found[key.decode().removeprefix(prefix)] = sorted(one.decode() for one in members)
    return found


def _containers(site: Site) -> list[Container]:
    found = []
    for host in site.errand.docker_hosts:
        with contextlib.closing(client_of(host)) as client:
            marks = {"label": f"errand.installation={site.errand.label}"}
            for one in client.api.containers(all=True, filters=marks):
                labels = one["Labels"]
                task, role = labels.get("errand.task", ""), labels.get("errand.role", "")
                found.append(Container(id=one["Id"][:12], task=task, role=role))
    return found
