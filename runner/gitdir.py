"""A bare repository that several processes of ours write to: one at a time, and usable whoever was killed at it."""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runner.git import Git

_LOOK_SECONDS = 0.05


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[Git]:
    """The repository, made if it is not there whole, and nobody else's until it is left.

    Raises:
        GitError, OSError: it can't be made.
    """
    async with locked(path):
        there = await asyncio.to_thread(is_whole, path)
        yield Git(path) if there else await Git.init_bare(path)


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """For writing to the configuration or to refs; git's own locks, if somebody was killed with them, are gone."""
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        # Not a blocking lock in a thread: a cancelled run would leave the thread behind, with the lock.
        while not _try_lock(file.fileno()):  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.to_thread(_remove_git_locks, path)
        yield


def is_whole(path: Path) -> bool:
    """Whether `git init` came to its end: the last thing that it makes is `objects/info`."""
    return all((path / name).exists() for name in ("HEAD", "config", "objects/info"))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_git_locks(path: Path) -> None:
    """Git never does: it would fail at them for ever. No name of a ref ends like this."""
    for lock in (*path.glob("*.lock"), *(path / "refs").rglob("*.lock")):
        lock.unlink(missing_ok=True)
