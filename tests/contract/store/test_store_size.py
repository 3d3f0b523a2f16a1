"""Ten thousand rows are no burden: every statement finds its rows by an index."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.states import LIVE, TaskState
from bot.store import (
    audit,
    commands,
    cursors,
    events,
    figures,
    followers,
    inbox,
    outbox,
    runs,
    secrets,
    tables,
    tasks,
)
from bot.store.engine import Store
from tests.support.store import HERE, NOW, a_message, a_task, an_event, an_inbound, at

MANY = 10_000
TASK = a_task().id
SENDING: dict[str, Any] = {"now": NOW, "lease_seconds": 60, "limit": 10}
REPLACING: dict[str, Any] = {"task": TASK, "kind": "card", "seq": "1", "payload": {}, "now": NOW}
Call = Callable[[AsyncConnection], Awaitable[object]]

CALLS: dict[str, Call] = {
    "inbox.new": lambda c: inbox.new(c, limit=10),
    "inbox.finish": lambda c: inbox.finish(c, 1, state="done"),
    "inbox.dead": lambda c: inbox.dead(c, limit=10),
    "inbox.revive": lambda c: inbox.revive(c, 1),
    "inbox.backlog": inbox.backlog,
    "inbox.prune": lambda c: inbox.prune(c, before=at(5000), after=0, limit=10),
    "tasks.get": lambda c: tasks.get(c, TASK),
    "tasks.for_conversation": lambda c: tasks.for_conversation(c, HERE),
    "tasks.listing": tasks.listing,
    "tasks.listing of states": lambda c: tasks.listing(c, states=[TaskState.FAILED]),
    "tasks.queued": lambda c: tasks.queued(c, limit=10),
    "tasks.candidates": lambda c: tasks.candidates(c, each=2, per_repo=5),
    "tasks.in_states": lambda c: tasks.in_states(c, LIVE),
    "tasks.count_live": tasks.count_live,
    "tasks.count_live of a person": lambda c: tasks.count_live(c, requester="slack:U0DANA"),
    "tasks.count_live of a repository": lambda c: tasks.count_live(c, repo="acme/web"),
    "tasks.counts": tasks.counts,
    "tasks.update": lambda c: tasks.update(c, TASK, reason="why"),
    "runs.get": lambda c: runs.get(c, TASK, 1),
    "runs.of_task": lambda c: runs.of_task(c, TASK),
    "runs.update": lambda c: runs.update(c, TASK, 1, reason="why"),
    "events.first_task": lambda c: events.first_task(c, after=""),
    "events.prune": lambda c: events.prune(c, TASK, limit=10),
    "events.of_task": lambda c: events.of_task(c, TASK),
    "events.of_task of a run": lambda c: events.of_task(c, TASK, fence=1),
    "outbox.claim": lambda c: outbox.claim(c, **SENDING),
    "outbox.replace": lambda c: outbox.replace(c, **REPLACING),
    "outbox.expired": lambda c: outbox.expired(c, now=NOW),
    "outbox.sent": lambda c: outbox.sent(c, "1", version=1, remote_id="r", next_at=NOW),
    "outbox.again": lambda c: outbox.again(c, "1", next_at=NOW, error=""),
    "outbox.get": lambda c: outbox.get(c, TASK, "card", "1"),
    "outbox.of_task": lambda c: outbox.of_task(c, TASK),
    "outbox.unsent": lambda c: outbox.unsent(c, TASK),
    "outbox.next_due": outbox.next_due,
    "commands.open_for": lambda c: commands.open_for(c, TASK),
    "commands.mark_sent": lambda c: commands.mark_sent(c, ["1", "2"], NOW),
    "commands.finish": lambda c: commands.finish(c, "1"),
    "commands.finish_all": lambda c: commands.finish_all(c, TASK),
    "cursors.starting": lambda c: cursors.starting(c, "stopped:"),
    "figures.look": figures.look,
    "tasks.for_item": lambda c: tasks.for_item(c, "ENG-1", repo="acme/web"),
    "tasks.waiting": lambda c: tasks.waiting(c, limit=9),
    "inbox.raw": lambda c: inbox.raw(c, limit=9),
    "inbox.raw of others": lambda c: inbox.raw(c, limit=9, but_not=[1, 2], busy=["slack"]),
    "inbox.complete": lambda c: inbox.complete(c, 1, an_inbound()),
    "followers.of_task": lambda c: followers.of_task(c, TASK),
    "secrets.get": lambda c: secrets.get(c, "a"),
    "secrets.replace": lambda c: secrets.replace(c, "a", old="b", new="c", now=NOW),
    "secrets.remove": lambda c: secrets.remove(c, "a", old="b"),
    "cursors.get": lambda c: cursors.get(c, "slack"),
    "audit.of_task": lambda c: audit.of_task(c, TASK),
    "audit.verify": audit.verify,
    "audit.checkpoint": audit.checkpoint,
    "audit.oldest": lambda c: audit.oldest(c, before=NOW, limit=10),
}
READ_FROM_ONE_END = {
    "SCAN inbox USING INDEX ix_inbox_new",
    "SCAN inbox USING INDEX ix_inbox_dead",
    "SCAN outbox USING INDEX ix_outbox_dead",
    "SCAN inbox USING INDEX ix_inbox_raw",
    "SCAN CONSTANT ROW",
    "SCAN outbox USING INDEX ix_outbox_pending",
    "SCAN outbox USING INDEX uq_outbox_sending",
    "SCAN task USING INDEX ix_task_created_at_id",
    "SCAN task USING COVERING INDEX ix_task_state_created_at_id",
    "SCAN audit",
    "SCAN audit_checkpoint USING INDEX sqlite_autoindex_audit_checkpoint_1",
}
"""Whole indices, read in order up to the limit or because all of it is asked for."""
FOUND = ("SCAN (subquery", "SCAN anon_")
"""What another part of the same statement has found by an index."""


async def _plans(tx: AsyncConnection, call: Call) -> list[str]:
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_other: Any) -> None:
        seen.append((statement, parameters))

    assert tx.sync_connection is not None
    event.listen(tx.sync_connection, "before_cursor_execute", note)
    await call(tx)
    event.remove(tx.sync_connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if tx.dialect.name == "sqlite" else "EXPLAIN"
    plans = []
    for statement, parameters in seen:
        rows = await tx.exec_driver_sql(f"{explain} {statement}", parameters)
        plans += [str(row[-1]) for row in rows]
    return plans


@pytest.mark.parametrize("name", CALLS)
async def test_every_statement_finds_its_rows_by_an_index(store: Store, name: str) -> None:
    async with store.begin() as tx:
        if store.dialect == "postgresql":
            await tx.execute(text("SET LOCAL enable_seqscan = off"))
        plans = await _plans(tx, CALLS[name])
    whole = {plan for plan in plans if "SCAN" in plan or "Seq Scan" in plan}
    whole -= {plan for plan in whole if plan.startswith(FOUND)}
    assert plans
    assert whole <= READ_FROM_ONE_END


async def test_ten_thousand_deliveries_are_taken_and_recognised(store: Store) -> None:
    said = [an_inbound(n) for n in range(MANY)]
    async with asyncio.timeout(40), store.begin() as tx:
        assert await inbox.insert_many(tx, said, now=NOW) == [True] * MANY
        assert await inbox.insert_many(tx, said, now=NOW) == [False] * MANY
        assert await inbox.backlog(tx) == MANY


async def test_more_than_ten_thousand_events_come_back_in_order(store: Store) -> None:
    told = [an_event(TASK, n) for n in range(MANY + 10)]
    async with asyncio.timeout(40), store.begin() as tx:
        await tasks.insert(tx, a_task())
        assert await events.insert_many(tx, told[::-1], now=NOW) == [True] * len(told)
        assert [row.record for row in await events.of_task(tx, TASK)] == told


@pytest.mark.parametrize("conversations", [1, 100, MANY])
async def test_a_backlog_of_ten_thousand_messages_is_claimed_at_once(
    store: Store, conversations: int
) -> None:
    rows = []
    for n in range(MANY):
        row = a_message(str(n), created_at=at(n))
        there = HERE.model_copy(update={"thread": str(n % conversations)})
        plain = row.model_dump(exclude={"urgent", "conversation"})
        rows.append({**plain, "conversation": there, "rank": 1})
    async with store.begin() as tx:
        await tx.execute(tables.outbox.insert(), rows)
    async with asyncio.timeout(10), store.begin() as tx:
        claimed = await outbox.claim(tx, now=NOW, lease_seconds=60, limit=50)
        assert [row.seq for row in claimed] == [str(n) for n in range(min(conversations, 50))]
        due = await outbox.next_due(tx)
        assert due == (NOW if conversations > 50 else None)
