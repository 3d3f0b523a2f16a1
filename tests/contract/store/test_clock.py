"""Hosts whose clocks differ read one clock, and what they lease to themselves is nobody else's."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bot.clock import StoreClock, since_boot
from bot.store import outbox
from bot.store.engine import Store
from tests.support.store import NOW, a_message


def wrong_by(minutes: float) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + timedelta(minutes=minutes)


async def a_clock(store: Store, *, minutes: float, booted: float = 0) -> StoreClock:
    clock = StoreClock(store, local=wrong_by(minutes), steady=lambda: since_boot() + booted)
    await clock.look()
    return clock


@pytest.mark.postgres
@pytest.mark.parametrize("minutes", [-5, 5])
async def test_senders_whose_hosts_have_other_times_post_once(
    postgres_store: Store, minutes: float
) -> None:
    store = postgres_store
    mine = await a_clock(store, minutes=0)
    other = await a_clock(store, minutes=minutes, booted=1e6)
    assert abs((mine.now() - other.now()).total_seconds()) < 5
    async with store.begin() as tx:
        await outbox.put(tx, a_message(next_at=NOW))
        [row] = await outbox.claim(tx, now=mine.now(), lease_seconds=30, limit=9)
    async with store.begin() as tx:
        assert await outbox.expired(tx, now=other.now()) == []
        assert await outbox.claim(tx, now=other.now(), lease_seconds=30, limit=9) == []
    assert row.state == "sending"


async def test_a_host_s_clock_may_be_set_at_any_time(store: Store) -> None:
    passed, local = 0.0, NOW

    clock = StoreClock(store, steady=lambda: passed, local=lambda: local)
    begun = clock.now()
    local, passed = NOW + timedelta(hours=1), 2.0
    assert clock.now() - begun == timedelta(seconds=2)
