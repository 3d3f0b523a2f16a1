"""A disk without room: what could not be stored is said to be so, and it goes on when there is room again."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from bot.intake import Intake, Signal
from bot.store import inbox
from bot.store.engine import Store
from bot.store.errors import StoreUnavailableError
from integrations.channel import Inbound
from tests.support.store import an_inbound

MORE_PAGES = 3


async def give_room(store: Store, pages: int) -> None:
    """So many pages more than now; the limit is the writing connection's, and there is one."""
    async with store.begin() as tx:
        used = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
        await tx.execute(text(f"PRAGMA max_page_count = {used + pages}"))


def long(n: int) -> Inbound:
    return an_inbound(n).model_copy(update={"text": "x" * 3000})


async def test_a_full_disk_acknowledges_nothing_and_loses_nothing(
    tmp_path: Path, sqlite_template: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "errand.db")
    store = Store(f"sqlite:///{tmp_path / 'errand.db'}")
    intake = Intake(store=store, arrived=Signal())
    await give_room(store, MORE_PAGES)

    stored: list[int] = []

    async def until_refused() -> None:
        for n in range(1, 50):
            await intake.receive(long(n))
            stored.append(n)

    with pytest.raises(StoreUnavailableError, match="full"):
        await until_refused()
    refused = len(stored) + 1
    async with store.read() as conn:
        assert await inbox.backlog(conn) == len(stored)
        assert (await conn.execute(text("PRAGMA integrity_check"))).scalar_one() == "ok"

    await give_room(store, 1000)
    assert await intake.receive(long(refused))
    async with store.read() as conn:
        assert await inbox.backlog(conn) == len(stored) + 1
    await store.close()
