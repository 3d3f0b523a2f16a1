"""Who this host is: a name that stays, and one worker at a time for a data directory."""

import fcntl
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runner.errors import RunnerError

HOST: Final = "host"
"""The file of the data directory that holds the host's name."""


class DataDirTakenError(RunnerError):
    """Another worker uses the data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"another worker uses {data_dir}: end it, or set ERRAND_DATA_DIR for this one"
        )


def host_name(data_dir: Path) -> str:
    """The name that this data directory's host got at its first start."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / HOST
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    plain = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
    name = f"{plain}-{secrets.token_hex(3)}"
    with os.fdopen(descriptor, "w") as file:
        file.write(name)
    return name


def known_host_name(data_dir: Path) -> str:
    """As `host_name`; empty if there was no start yet."""
    path = data_dir / HOST
    return path.read_text().strip() if path.is_file() else ""


@contextmanager
def sole_worker(data_dir: Path) -> Iterator[None]:
    """Hold the data directory.

    Raises:
        DataDirTakenError: somebody else does.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "worker.lock").open("w") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirTakenError(data_dir) from None
        yield
