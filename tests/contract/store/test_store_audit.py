"""The audit record: append-only, and what was changed behind our back is found."""

import asyncio
from datetime import timedelta, timezone

import pytest
from sqlalchemy import text

from bot.store import audit
from bot.store.audit import GENESIS
from bot.store.engine import Store
from bot.store.errors import StoreRefusedError
from bot.store.rows import AuditEntry
from tests.support.store import NOW, at

UNLOCK = {
    "sqlite": [f"DROP TRIGGER audit_{n}" for n in ("no_update", "no_delete", "no_replace")],
    "postgresql": ["ALTER TABLE audit DISABLE TRIGGER ALL"],
}
BREAKS = {
    "actor": "UPDATE audit SET actor = 'slack:U0EVE' WHERE id = 3",
    "time": "UPDATE audit SET at = '2020-01-01T00:00:00.000000+00:00' WHERE id = 3",
    "detail": "UPDATE audit SET detail = '{\"n\": 3}' WHERE id = 3",
    "no JSON": "UPDATE audit SET detail = '{' WHERE id = 3",
    "own hash": "UPDATE audit SET hash = 'f' WHERE id = 3",
    "link": "UPDATE audit SET previous = 'e' WHERE id = 3",
    "deleted": "DELETE FROM audit WHERE id = 3",
    "renumbered": "UPDATE audit SET id = 33 WHERE id = 3",
}


def an_entry(n: int = 1, **changes: object) -> AuditEntry:
    values = {
        "at": at(n),
        "actor": "slack:U0DANA",
        "action": "start",
        "task": f"01task{n % 2:06}",
        "decision": "granted",
        "policy_hash": "p" * 64,
        "detail": {"n": n, "cost": 0.1, "text": "👀", "none": None, "deep": {"b": [1], "a": {}}},
    }
    return AuditEntry.model_validate({**values, **changes})


async def _fill(store: Store, number: int) -> None:
    async with store.begin() as tx:
        for n in range(number):
            await audit.append(tx, an_entry(n))


async def _tamper(store: Store, *statements: str) -> None:
    async with store.begin() as tx:
        for statement in (*UNLOCK[store.dialect], *statements):
            await tx.execute(text(statement))


async def test_an_empty_record_is_whole(store: Store) -> None:
    async with store.read() as conn:
        report = await audit.verify(conn)
    assert (report.rows, report.broken_at, report.reason) == (0, None, "")


async def test_each_row_continues_the_one_before(store: Store) -> None:
    async with store.begin() as tx:
        first = await audit.append(tx, an_entry(1))
    async with store.begin() as tx:
        second = await audit.append(tx, an_entry(3))
        assert await audit.of_task(tx, an_entry(1).task) == [first, second]
        report = await audit.verify(tx)
    assert (first.id, first.previous) == (1, GENESIS)
    assert (second.id, second.previous) == (2, first.hash)
    assert (report.rows, report.broken_at, report.head) == (2, None, second.hash)


async def test_an_entry_comes_back_as_it_was_given(store: Store) -> None:
    given = an_entry(1, at=NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))
    async with store.begin() as tx:
        await audit.append(tx, given)
    async with store.read() as conn:
        (row,) = await audit.of_task(conn, given.task)
    assert AuditEntry.model_validate(row.model_dump(exclude={"id", "previous", "hash"})) == given


@pytest.mark.parametrize(
    "odd",
    [
        {"actor": "nul \x00 and \ud83d"},
        {"detail": {"nul \x00": "\x00", "2": 1, "10": 2, "big": 2**70, "float": 1e300}},
    ],
)
async def test_odd_values_do_not_break_the_chain(store: Store, odd: dict[str, object]) -> None:
    async with store.begin() as tx:
        await audit.append(tx, an_entry(1).model_copy(update=odd))
        await audit.append(tx, an_entry(2))
        assert (await audit.verify(tx)).broken_at is None


async def test_a_rolled_back_entry_leaves_no_gap(store: Store) -> None:
    async def fails() -> None:
        async with store.begin() as tx:
            await audit.append(tx, an_entry(2))
            raise ZeroDivisionError

    await _fill(store, 1)
    with pytest.raises(ZeroDivisionError):
        await fails()
    await _fill(store, 1)
    async with store.read() as conn:
        report = await audit.verify(conn)
    assert (report.rows, report.broken_at) == (2, None)


async def test_concurrent_writers_make_one_chain(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for n in range(30):
            group.create_task(_fill(stores[n % 3], 2))
    async with stores[0].read() as conn:
        report = await audit.verify(conn)
    assert (report.rows, report.broken_at) == (60, None)
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'slack:U0EVE'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 2",
    ],
)
async def test_the_database_refuses_to_change_what_was_written(
    store: Store, statement: str
) -> None:
    async def change() -> None:
        async with store.begin() as tx:
            await tx.execute(text(statement))

    await _fill(store, 2)
    with pytest.raises(StoreRefusedError):
        await change()
    async with store.read() as conn:
        assert (await audit.verify(conn)).rows == 2


async def test_the_other_ways_to_remove_rows_are_closed_too(store: Store) -> None:
    statement = {
        "sqlite": "REPLACE INTO audit SELECT id, at, 'slack:U0EVE', action, task, decision,"
        " policy_hash, detail, previous, hash FROM audit",
        "postgresql": "TRUNCATE audit",
    }[store.dialect]

    async def change() -> None:
        async with store.begin() as tx:
            await tx.execute(text(statement))

    await _fill(store, 2)
    with pytest.raises(StoreRefusedError, match="append-only"):
        await change()


@pytest.mark.parametrize("name", BREAKS)
async def test_what_was_changed_behind_our_back_is_found(store: Store, name: str) -> None:
    await _fill(store, 5)
    await _tamper(store, BREAKS[name])
    async with store.read() as conn:
        report = await audit.verify(conn)
    assert (report.rows, report.broken_at) == (2, 3)
    assert report.reason


async def test_a_row_slipped_in_before_the_first_is_found(store: Store) -> None:
    await _fill(store, 2)
    await _tamper(
        store,
        "INSERT INTO audit SELECT -7, at, actor, action, task, decision, policy_hash, detail,"
        " 'x', hash FROM audit WHERE id = 1",
    )
    async with store.read() as conn:
        assert (await audit.verify(conn)).broken_at == 1


async def test_a_cut_off_end_shows_against_a_head_noted_elsewhere(store: Store) -> None:
    await _fill(store, 5)
    async with store.read() as conn:
        noted = await audit.verify(conn)
    await _tamper(store, "DELETE FROM audit WHERE id > 3")
    async with store.read() as conn:
        report = await audit.verify(conn)
    assert (report.rows, report.broken_at) == (3, None)
    assert report.head != noted.head


async def test_a_long_record_is_verified_in_chunks(store: Store) -> None:
    number = 2 * audit.CHUNK + 1
    await _fill(store, number)
    async with store.read() as conn:
        assert (await audit.verify(conn)).rows == number
    await _tamper(store, "DELETE FROM audit WHERE id = 501")
    async with store.read() as conn:
        assert (await audit.verify(conn)).broken_at == 501
