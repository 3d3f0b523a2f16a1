"""One command in a sandbox like a task's: no task, no agent, and nothing left behind."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from runner.errors import SandboxLostError
from runner.protocol import RunKey
from runner.sandbox import Line, Role, Sandbox, SandboxBackend, SandboxSpec

READY_SECONDS: Final = 30.0
_COMMAND: Final = "command"
_PREFIX: Final = "trial"
_KILLED: Final = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    spec: SandboxSpec
    policy: Mapping[str, Any] = field(repr=False)
    """The gateway's message; it may hold secrets."""
    argv: Sequence[str]
    seconds: int
    said: Callable[[str, str], None]
    """Gets the name of a stream and a piece of what the command wrote to it."""
    decided: Callable[[Mapping[str, Any]], None]
    """Gets each decision of the gateway, when it is made."""


def run_key() -> RunKey:
    """Names the process, so that what a killed one left can be told from what a live one uses."""
    return RunKey(task=f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(4)}", fence=1)


def host_label() -> str:
    """A host of its own: no worker's sweep looks for it."""
    return f"{_PREFIX}@{socket.gethostname()}"


def is_host_label(host: str) -> bool:
    """That it is a trial's, on whatever machine."""
    return host.startswith(f"{_PREFIX}@")


async def run(backend: SandboxBackend, trial: Trial) -> int:
    """The command's exit status. The sandbox is gone when this returns, raises or is cancelled.

    Raises:
        SandboxStartError: Docker or the image is at fault.
        SandboxLostError: a container ended before the command.
    """
    await _clear(backend, installation=trial.spec.installation)
    async with _opened(backend, trial.spec) as sandbox:
        await sandbox.ensure()
        await sandbox.send("gateway", key="policy", to="init", msg=trial.policy)
        await _line(sandbox, "gateway", kind="ready")
        await _line(sandbox, "acceptor", kind="ready")
        return await _attend(sandbox, trial)


@asynccontextmanager
async def _opened(backend: SandboxBackend, spec: SandboxSpec) -> AsyncIterator[Sandbox]:
    sandbox = backend.open(spec)
    try:
        yield sandbox
    finally:
        # Another Ctrl-C waits for it too.
        await asyncio.shield(sandbox.remove())


async def _clear(backend: SandboxBackend, *, installation: str) -> None:
    """Remove what trials left whose process was killed."""
    for leftover in await backend.leftovers(installation=installation, host=host_label()):
        pid = leftover.run.task.split("-")[1]
        if not _alive(int(pid)):
            await backend.discard(leftover)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _attend(sandbox: Sandbox, trial: Trial) -> int:
    command = {"do": "exec", "argv": list(trial.argv), "timeout": trial.seconds, "apart": True}
    told = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_tell_decisions(sandbox, trial, told))
        await sandbox.send("agent", key=_COMMAND, to="init", msg=command)
        status = await _listen(sandbox, trial)
        # The gateway writes a decision before it answers: all of them come before this line.
        await sandbox.send("gateway", key="end", to="init", msg={"do": "note"})
        async with asyncio.timeout(READY_SECONDS):
            await told.wait()
        watching.cancel()
    return status


async def _listen(sandbox: Sandbox, trial: Trial) -> int:
    async with aclosing(_lines(sandbox, "agent")) as lines:
        async for line in lines:
            fields = line.model_extra or {}
            if line.kind == "output":
                trial.said(str(fields.get("stream", "stdout")), str(fields["text"]))
            elif line.kind == "exit" and fields.get("key") == _COMMAND:
                return int(fields["status"])
            elif line.kind == "fatal":
                raise SandboxLostError(f"the container ended itself: {fields.get('reason')}")
    status = await sandbox.exit_status("agent")
    hint = ": out of memory, or killed" if status == _KILLED else ""
    raise SandboxLostError(f"the container ended with status {status}{hint}")


async def _tell_decisions(sandbox: Sandbox, trial: Trial, told: asyncio.Event) -> None:
    async with aclosing(_lines(sandbox, "gateway")) as lines:
        async for line in lines:
            fields = line.model_extra or {}
            if line.kind == "decision":
                trial.decided(fields)
            elif line.kind == "received" and fields.get("key") == "end":
                told.set()
    raise SandboxLostError("the gateway ended before the command")


async def _line(sandbox: Sandbox, role: Role, *, kind: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS), aclosing(_lines(sandbox, role)) as lines:
            async for line in lines:
                if line.kind == kind:
                    return
                if line.kind == "fatal":
                    raise SandboxLostError(
                        f"the {role} gave up: {(line.model_extra or {}).get('reason')}"
                    )
    except TimeoutError:
        raise SandboxLostError(f"the {role} did not get ready") from None
    raise SandboxLostError(f"the {role} ended before it was ready")


async def _lines(sandbox: Sandbox, role: Role) -> AsyncGenerator[Line, None]:
    async for line in sandbox.follow(role):
        yield line
