"""A trial's end, however it comes: with containers in memory."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runner import trial
from runner.errors import RunnerError, SandboxLostError, SandboxStartError
from runner.protocol import RunKey
from runner.sandbox import SandboxSpec
from runner.testing import End, MemoryBackend, Step
from runner.trial import Trial

OUTPUT = {"kind": "output", "key": "command", "text": "out\n"}
ERROR = {**OUTPUT, "stream": "stderr", "text": "err\n"}
EXIT = {"kind": "exit", "key": "command", "status": 3, "tail": ""}
DENIED = {"kind": "decision", "verdict": "deny", "host": "x.test", "port": 443}


def playing(*steps: Step) -> MemoryBackend:
    """Whose agent's container answers the command with these."""

    def agent(key: str, _to: str, _msg: Mapping[str, Any]) -> Iterable[Step]:
        return steps if key == "command" else ()

    def gateway(key: str, _to: str, _msg: Mapping[str, Any]) -> Iterable[Step]:
        return (DENIED,) if key == "policy" else ()

    return MemoryBackend({"agent": agent, "gateway": gateway})


def a_spec(run: RunKey | None = None) -> SandboxSpec:
    return SandboxSpec(
        installation="test", host=trial.host_label(), run=run or trial.run_key(), image="default",
        mirror=Path("/mirror"), limits={},
    )  # fmt: skip


async def tried(backend: MemoryBackend) -> tuple[int, list[tuple[str, str]], list[str]]:
    said: list[tuple[str, str]] = []
    decided: list[str] = []
    status = await trial.run(
        backend,
        Trial(
            spec=a_spec(),
            policy={"do": "policy"},
            argv=["true"],
            seconds=9,
            said=lambda stream, text: said.append((stream, text)),
            decided=lambda decision: decided.append(decision["host"]),
        ),
    )
    return status, said, decided


async def left(backend: MemoryBackend) -> list[RunKey]:
    found = await backend.leftovers(installation="test", host=trial.host_label())
    return [leftover.run for leftover in found]


async def test_streams_decisions_and_status_are_told() -> None:
    backend = playing(OUTPUT, ERROR, EXIT)
    said = [("stdout", "out\n"), ("stderr", "err\n")]
    assert await tried(backend) == (3, said, ["x.test"])
    assert await left(backend) == []


@pytest.mark.parametrize(
    ("steps", "word"),
    [((End(137),), "out of memory"), (({"kind": "fatal", "reason": "too much"},), "too much")],
)
async def test_a_container_that_ends_first_is_told(steps: tuple[Step, ...], word: str) -> None:
    backend = playing(*steps)
    with pytest.raises((RunnerError, ExceptionGroup)) as raised:
        await tried(backend)
    error: BaseException = raised.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SandboxLostError)
    assert word in str(error)
    assert await left(backend) == []


async def test_what_cannot_start_leaves_nothing() -> None:
    backend = playing(EXIT)
    backend.start_failures.append("no room")
    with pytest.raises(SandboxStartError, match="no room"):
        await tried(backend)
    assert await left(backend) == []


async def test_a_trial_that_is_cancelled_leaves_nothing() -> None:
    backend = playing(OUTPUT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await tried(backend)
    assert await left(backend) == []


async def test_only_what_the_dead_left_is_cleared() -> None:
    backend = playing(EXIT)
    dead, live = RunKey(task="trial-4194305-aa", fence=1), trial.run_key()
    for run in (dead, live):
        backend.create(a_spec(run))
    await tried(backend)
    assert await left(backend) == [live]
