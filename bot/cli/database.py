"""Commands that read or write the store."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bot.errors import SetupError
from bot.settings import Settings
from bot.store.connect import parse
from bot.store.engine import Store

T = TypeVar("T")


def with_store(
    settings: Settings, work: Callable[[Store], Awaitable[T]], *, upgraded: bool = True
) -> T:
    """Run something on the store of these settings.

    Args:
        settings: whose `database` is meant.
        work: what to run.
        upgraded: the schema must be this version's.

    Raises:
        SetupError: there is no database, or its schema is another version's.
    """

    async def run() -> T:
        if upgraded:
            _be_there(settings)
        store = Store(settings.database)
        try:
            if upgraded and (problem := await store.problem()):
                raise SetupError(f"the database can't be used: {problem}")
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _be_there(settings: Settings) -> None:
    """SQLite would make an empty file."""
    url = parse(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise SetupError(
            f"there is no database at {url.database}: start `errand up`, or set ERRAND_DATA_DIR"
        )
