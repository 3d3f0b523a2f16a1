"""A worker's process that is halted for longer than its lease and the grace, and then goes on as if nothing had been."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bot.states import TaskState
from runner import keys
from runner.protocol import RunKey
from tests.contract.flow.yard import ScriptedHost, Yard, done
from tests.support.installation import until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.redis
ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 40


@asynccontextmanager
async def a_host(
    valkey: ValkeyServer, root: Path, run: RunKey
) -> AsyncIterator[asyncio.subprocess.Process]:
    words = (sys.executable, "-m", "tests.support.host_process", valkey.url, str(root))
    process = await asyncio.create_subprocess_exec(
        *words, run.task, str(run.fence), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def says(process: asyncio.subprocess.Process, word: bytes) -> None:
    assert process.stdout
    async with asyncio.timeout(WAIT_SECONDS):
        async for line in process.stdout:
            if line.startswith(word):
                return
    raise AssertionError(f"it ended without {word!r}")


@pytest.mark.timeout(120)
async def test_a_process_that_was_halted_for_too_long_leaves_its_run_to_the_next(
    yard: Yard, valkey: ValkeyServer, tmp_path: Path
) -> None:
    async def known() -> bool:
        await yard.apply()
        return (await yard.office.task()).state is TaskState.RUNNING

    first = await yard.starting()
    await yard.redis.delete(f"arq:job:run:{first}", keys.run_queue("default"))  # it took that
    async with a_host(valkey, tmp_path / "host", first) as process:
        await says(process, b"at work")
        await until(
            known, seconds=WAIT_SECONDS, what="what it tells, after what it does, is applied"
        )

        process.send_signal(signal.SIGSTOP)
        await yard.redis.pexpire(keys.lease(first.task), 1)  # not 30 s
        async with asyncio.timeout(WAIT_SECONDS):
            while await yard.bus.has_lease(first.task):  # noqa: ASYNC110 - Redis sets no event
                await asyncio.sleep(0.01)
        await yard.wait_out_the_grace()
        await yard.dispatcher.dispatch()
        other = ScriptedHost(yard.redis, "h2", yard.office)
        [second] = [run for run in await other.take() if run.fence == 2]

        process.send_signal(signal.SIGCONT)
        await says(process, b"left 0")
    await yard.tell(second, other.started(), done(changed=False))
    task = await yard.office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.SUCCEEDED, 2, 2)
    assert [row.outcome for row in await yard.office.runs()] == ["lost", "done"]
    assert len(await yard.office.finals()) == 1
