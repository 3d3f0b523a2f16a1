"""The embedded Valkey: a real server, real processes that use it, and real kills."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import NoRedisError
from bot.valkey import embedded_valkey, shared_redis
from tests.support.installation import until

pytestmark = pytest.mark.redis

USER = """
import asyncio, sys
from pathlib import Path
from bot.valkey import embedded_valkey

async def main():
    async with embedded_valkey(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: the name of a Unix socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="errand-valkey-") as made:
        yield Path(made) / "v"
        with suppress(OSError):
            os.kill(_pid(Path(made) / "v"), signal.SIGKILL)


def _pid(directory: Path) -> int:
    return int((directory / "valkey.pid").read_text())


def _runs(pid: int) -> bool:
    try:
        return "valkey" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


@asynccontextmanager
async def another_process(directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of ours that uses the server until its input ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USER, str(directory),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout
        assert (await process.stdout.readline()).startswith(b"unix://")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _answers(redis: Redis) -> bool:
    with suppress(RedisError, OSError):
        return bool(await redis.ping())
    return False


async def test_data_is_kept_over_a_restart(directory: Path) -> None:
    async with embedded_valkey(directory) as url, Redis.from_url(url) as redis:
        await redis.set("a", "1")
    async with embedded_valkey(directory) as url, Redis.from_url(url) as redis:
        assert await redis.get("a") == b"1"


async def test_no_server_and_no_socket_is_left_at_the_end(directory: Path) -> None:
    async with embedded_valkey(directory):
        pid = _pid(directory)
        assert _runs(pid)
    await until(_gone(pid), seconds=5, what="the server is gone")
    assert not (directory / "valkey.sock").exists()


async def test_a_server_that_dies_is_started_again_with_its_data(directory: Path) -> None:
    async with embedded_valkey(directory) as url, Redis.from_url(url) as redis:
        await redis.set("a", "1")
        await redis.execute_command("WAITAOF", 1, 0, 5000)
        os.kill(_pid(directory), signal.SIGKILL)
        await until(lambda: _answers(redis), seconds=10, what="a new server answers")
        assert await redis.get("a") == b"1"


async def test_the_server_of_a_killed_process_is_adopted_and_ended(directory: Path) -> None:
    async with another_process(directory) as process:
        pid = _pid(directory)
        process.kill()
        await process.wait()
    assert _runs(pid)
    async with embedded_valkey(directory) as url, Redis.from_url(url) as redis:
        assert await redis.ping()
        assert _pid(directory) == pid
    await until(_gone(pid), seconds=5, what="the server is gone")


async def test_who_ends_first_leaves_the_server_to_the_other(directory: Path) -> None:
    async with another_process(directory) as first:
        pid = _pid(directory)
        async with embedded_valkey(directory) as url, Redis.from_url(url) as redis:
            assert _pid(directory) == pid
            assert first.stdin
            first.stdin.close()
            assert await first.wait() == 0
            assert await redis.ping()
            assert _pid(directory) == pid
        await until(_gone(pid), seconds=5, what="the server is gone")


async def test_who_stands_by_starts_a_server_after_both_are_killed(directory: Path) -> None:
    async with (
        another_process(directory) as first,
        embedded_valkey(directory) as url,
        Redis.from_url(url) as redis,
    ):
        first.kill()
        await first.wait()
        os.kill(_pid(directory), signal.SIGKILL)
        await until(lambda: _answers(redis), seconds=10, what="a new server answers")


async def test_a_directory_with_a_space_works(directory: Path) -> None:
    async with embedded_valkey(directory / "two words") as url, Redis.from_url(url) as redis:
        assert await redis.ping()


async def test_a_path_too_long_for_a_socket_is_named(directory: Path) -> None:
    with pytest.raises(NoRedisError, match="too long for a socket: set ERRAND_DATA_DIR"):
        async with embedded_valkey(directory / ("x" * 100)):
            pass


async def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(NoRedisError, match=r"/proc/none/v.*ERRAND_DATA_DIR"):
        async with embedded_valkey(Path("/proc/none/v")):
            pass


async def test_a_shared_redis_that_is_dead_is_named_without_its_password() -> None:
    with pytest.raises(NoRedisError, match="mend ERRAND_REDIS_URL") as raised:
        async with shared_redis("redis://:hunter2@127.0.0.1:1/0", seconds=0.2):
            pass
    assert "hunter2" not in str(raised.value)


def _gone(pid: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not _runs(pid)

    return look
