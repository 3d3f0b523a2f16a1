"""A database that is a file has one `serve`; one that is a server may have several."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.errors import SetupError


@contextmanager
def alone(database: Path | None) -> Iterator[bool]:
    """True if no other `serve` can use the database for as long as the block runs.

    Args:
        database: its file; None for a server, which anybody may use.

    Raises:
        SetupError: another `serve` uses the file.
    """
    if database is None:
        yield False
        return
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.serve").open("w") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"another `errand serve` or `up` uses {database}: end it, or use PostgreSQL"
                " (ERRAND_DATABASE_URL), which several can share"
            ) from None
        yield True
