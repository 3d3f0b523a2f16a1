"""The record that nobody can change unnoticed: each row holds the hash of the one before."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.columns import canonical, clean
from bot.store.rows import AuditEntry, AuditRow
from bot.store.tables import audit as table

GENESIS = "0" * 64
CHUNK = 500
HASHED = ("id", "at", "actor", "action", "task", "decision", "policy_hash", "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    rows: int
    """Rows that are as they were written, counted from the first."""
    broken_at: int | None
    """Id of the first row that is not, or is missing."""
    reason: str
    head: str = GENESIS
    """Hash of the last good row. Rows cut off at the end show only against a head noted elsewhere."""


async def append(tx: AsyncConnection, entry: AuditEntry) -> AuditRow:
    """Write one line. Needs a transaction of `Store.begin`, of which there is one at a time."""
    last_row = select(table.c.id, table.c.hash).order_by(table.c.id.desc()).limit(1)
    last = (await tx.execute(last_row)).first()
    values = _texts(entry)
    values["id"] = 1 if last is None else last.id + 1
    values["previous"] = GENESIS if last is None else last.hash
    values["hash"] = _hash(values)
    await tx.execute(table.insert().values(values))
    return _row(values)


async def verify(conn: AsyncConnection) -> AuditReport:
    """Walk the chain from its beginning, a chunk in memory at a time."""
    rows, head = 0, GENESIS
    while chunk := await _chunk(conn, after=rows or None):
        for row in chunk:
            if reason := _fault(row, expected_id=rows + 1, head=head):
                return AuditReport(rows=rows, broken_at=rows + 1, reason=reason, head=head)
            rows, head = rows + 1, row["hash"]
    return AuditReport(rows=rows, broken_at=None, reason="", head=head)


async def of_task(conn: AsyncConnection, task: str) -> list[AuditRow]:
    """Oldest first."""
    query = select(table).where(table.c.task == task).order_by(table.c.id)
    return [_row(dict(row)) for row in (await conn.execute(query)).mappings()]


async def newest(
    conn: AsyncConnection, *, action: str, task: str = "", decision: str = "", limit: int
) -> list[AuditRow]:
    """The newest rows of one kind, oldest first; of one task or decision, if these are given."""
    query = select(table).where(table.c.action == action)
    if task:
        query = query.where(table.c.task == task)
    if decision:
        query = query.where(table.c.decision == decision)
    found = await conn.execute(query.order_by(table.c.id.desc()).limit(limit))
    return [_row(dict(row)) for row in reversed(found.mappings().all())]


async def _chunk(conn: AsyncConnection, *, after: int | None) -> list[Mapping[str, Any]]:
    query = select(table).order_by(table.c.id).limit(CHUNK)
    if after is not None:
        query = query.where(table.c.id > after)
    return [dict(row) for row in (await conn.execute(query)).mappings()]


def _fault(row: Mapping[str, Any], *, expected_id: int, head: str) -> str:
    if row["id"] != expected_id:
        return f"row {expected_id} is missing"
    if row["previous"] != head:
        return "it does not continue the row before"
    if row["hash"] != _hash(row):
        return "its content is not what was written"
    return ""


def _hash(values: Mapping[str, Any]) -> str:
    content = canonical([str(values[name]) for name in HASHED])
    return hashlib.sha256((str(values["previous"]) + content).encode()).hexdigest()


def _texts(entry: AuditEntry) -> dict[str, Any]:
    plain = entry.model_dump(mode="json")
    words = ("actor", "action", "task", "decision", "policy_hash")
    return {
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        **{name: clean(plain[name]) for name in words},
        "detail": canonical(plain["detail"]),
    }


def _row(values: Mapping[str, Any]) -> AuditRow:
    return AuditRow.model_validate({**values, "detail": json.loads(values["detail"])})
