"""The record that nobody can change unnoticed: each row holds the hash of the one before."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.columns import canonical, clean
from bot.store.rows import AuditEntry, AuditRow
from bot.store.tables import audit as table
from bot.store.tables import audit_checkpoint as cuts

GENESIS = "0" * 64
CHUNK = 500
MISSING = "row {} is missing"
HASHED = ("id", "at", "actor", "action", "task", "decision", "policy_hash", "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where the record was cut off; what came before is in a file."""

    upto: int
    """Id of the last row in the file."""
    hash: str
    """Of that row: the first one that is left continues it."""
    at: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    rows: int
    """Rows that are as they were written, counted from the first that is here."""
    checkpoint: Checkpoint | None = None
    """What the first row continues; None: nothing, it is the first that ever was."""
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
    """Walk the chain from its beginning, or from where it was cut off, a chunk in memory at a time."""
    start = await checkpoint(conn)
    last, head = (0, GENESIS) if start is None else (start.upto, start.hash)
    began, after = last, last or None
    while chunk := await _chunk(conn, after=after):
        for row in chunk:
            if reason := _fault(row, expected_id=last + 1, head=head):
                return AuditReport(
                    rows=last - began,
                    broken_at=last + 1,
                    reason=reason,
                    head=head,
                    checkpoint=start,
                )
            last, head = last + 1, row["hash"]
        after = last
    if last == began and start is not None:
        # The newest row is never cut off: somebody has removed it.
        return AuditReport(
            rows=0, broken_at=last + 1, reason=MISSING.format(last + 1), head=head, checkpoint=start
        )
    return AuditReport(rows=last - began, broken_at=None, reason="", head=head, checkpoint=start)


async def checkpoint(conn: AsyncConnection) -> Checkpoint | None:
    """The newest."""
    query = select(cuts).order_by(cuts.c.upto.desc()).limit(1)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else Checkpoint(**row)


async def checkpoints(conn: AsyncConnection) -> list[Checkpoint]:
    """Oldest first."""
    rows = (await conn.execute(select(cuts).order_by(cuts.c.upto))).mappings()
    return [Checkpoint(**row) for row in rows]


async def oldest(conn: AsyncConnection, *, before: datetime, limit: int) -> list[dict[str, Any]]:
    """Rows from the first that is here, as they are stored, as long as they are older; never the newest of all."""
    start = await checkpoint(conn)
    newest = select(func.max(table.c.id)).scalar_subquery()
    query = select(table).where(table.c.id > (start.upto if start else 0), table.c.id < newest)
    rows = (await conn.execute(query.order_by(table.c.id).limit(limit))).mappings()
    text = _time(before)
    return [dict(row) for row in itertools.takewhile(lambda row: row["at"] < text, rows)]


async def cut(tx: AsyncConnection, at: Checkpoint) -> None:
    """Note that everything up to here is in a file. The database refuses it for what is none of the record's rows."""
    await tx.execute(cuts.insert().values(asdict(at)))


async def prune(tx: AsyncConnection, *, limit: int) -> int:
    """Remove rows that a checkpoint stands for; how many. The database refuses to remove others."""
    start = await checkpoint(tx)
    if start is None:
        return 0
    chosen = select(table.c.id).where(table.c.id <= start.upto).order_by(table.c.id).limit(limit)
    return (await tx.execute(delete(table).where(table.c.id.in_(chosen)))).rowcount


def broken(rows: Iterable[Mapping[str, Any]], *, after: Checkpoint | None) -> str:
    """What is wrong with rows that should follow each other; empty if nothing is."""
    last, head = (0, GENESIS) if after is None else (after.upto, after.hash)
    for row in rows:
        if reason := _fault(row, expected_id=last + 1, head=head):
            return f"row {last + 1}: {reason}"
        last, head = last + 1, str(row["hash"])
    return ""


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
        return MISSING.format(expected_id)
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
        "at": _time(entry.at),
        **{name: clean(plain[name]) for name in words},
        "detail": canonical(plain["detail"]),
    }


def _time(at: datetime) -> str:
    """Texts that sort as the times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _row(values: Mapping[str, Any]) -> AuditRow:
    return AuditRow.model_validate({**values, "detail": json.loads(values["detail"])})
