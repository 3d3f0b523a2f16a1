"""How processes begin and end: quickly, quietly, and without leaving a server behind."""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.contract.cli.conftest import Place
from tests.support.docker_host import default_image, require_docker
from tests.support.installation import until

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]
ENDS_SECONDS = 10


async def _serving(place: Place) -> None:
    async def healthy() -> bool:
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{place.port}/healthz")
                return answer.is_success
        return False

    await until(healthy, seconds=60, what="`errand serve` answers")


async def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    process.send_signal(number)
    return await asyncio.to_thread(process.wait, ENDS_SECONDS)


def _valkey(place: Place) -> int | None:
    with suppress(OSError):
        return int((place.data / "valkey/valkey.pid").read_text())
    return None


async def _gone(pid: int) -> None:
    async def look() -> bool:
        return _state(pid) == "Z"

    await until(look, seconds=5, what="the server is gone")


def _state(pid: int) -> str:
    """As /proc has it; Z as well for what is not there any more."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_serve_ends_quietly_and_takes_its_valkey_with_it(
    place: Place, number: signal.Signals, code: int
) -> None:
    process = place.start("serve")
    await _serving(place)
    pid = _valkey(place)
    assert pid
    assert await _end(process, number) == code
    await _gone(pid)
    assert not (place.data / "valkey/valkey.sock").exists()
    assert '"level": "info"' in place.log("serve")
    assert [line for line in place.log("serve").splitlines() if '"level": "info"' not in line] == []


async def test_serve_goes_on_with_the_valkey_of_a_killed_predecessor(place: Place) -> None:
    first = place.start("serve")
    await _serving(place)
    pid = _valkey(place)
    assert pid
    assert await _end(first, signal.SIGKILL) == -signal.SIGKILL
    assert _state(pid) != "Z"
    second = place.start("serve")
    await _serving(place)
    assert _valkey(place) == pid
    assert await _end(second, signal.SIGTERM) == 0
    await _gone(pid)


@pytest.mark.docker
async def test_work_keeps_its_redis_when_serve_ends_first(place: Place) -> None:
    require_docker()
    default_image()
    serve = place.start("serve")
    await _serving(place)
    work = place.start("work")

    async def working() -> bool:
        return '"event": "working"' in place.log("work")

    await until(working, seconds=60, what="`errand work` works")
    pid = _valkey(place)
    assert pid
    assert await _end(serve, signal.SIGTERM) == 0
    os.kill(pid, 0)
    assert await _end(work, signal.SIGTERM) == 0
    await _gone(pid)
    assert [line for line in place.log("work").splitlines() if '"level": "info"' not in line] == []


@pytest.mark.docker
async def test_a_second_worker_of_a_data_directory_is_refused(place: Place) -> None:
    require_docker()
    default_image()
    first = place.start("work", ERRAND_WORK__SERVE_URL="http://127.0.0.1:1")

    async def holds() -> bool:
        return (place.data / "worker.lock").exists()

    await until(holds, seconds=60, what="the first worker holds the directory")
    second = await asyncio.to_thread(place.errand, "work")
    assert second.returncode == 4
    assert "another worker uses" in second.stderr
    assert "Traceback" not in second.stderr
    assert await _end(first, signal.SIGTERM) == 0
