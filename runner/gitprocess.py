"""One git process: an environment of ours, a time limit, an output limit, and an end for its whole process group."""

import asyncio
import base64
import binascii
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from runner.inside.gitread import GIT_ENV

_ENVIRONMENT = {**GIT_ENV, "GIT_ATTR_NOSYSTEM": "1"}
_TAIL = 4000
_LINGER = 5
_CONTROL = re.compile(r"[^\n\x20-\x7e\x80-\U0010ffff]|[\x80-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    status: int | None
    """None when we ended it: out of time or too much output."""
    stdout: bytes
    tail: str
    """The end of stderr, without credentials and control characters."""


def config_environment(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Settings as git reads them from its environment, where no other user's `ps` shows them."""
    environment = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def redact(text: str, header: str | None) -> str:
    """The text without the header's credential, plain or in base64, and without control characters."""
    for secret in _secrets(header) if header else ():
        text = text.replace(secret, "***")
    return _CONTROL.sub("", text.replace("\r", "\n"))


def _secrets(header: str) -> list[str]:
    credential = header.rpartition(" ")[2]
    found = [header, credential]
    with contextlib.suppress(binascii.Error, ValueError):
        found.append(base64.b64decode(credential, validate=True).decode().rpartition(":")[2])
    return [secret for secret in found if secret]


async def execute(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: bytes | BinaryIO | None,
    timeout: float,  # noqa: ASYNC109 - one limit for the whole process, not for an await
    max_output: int,
) -> Outcome:
    """Run to the end. The process group does not outlive this call, however it is left."""
    try:
        process = await _start(argv, environment, _stdin(stdin))
    except OSError as error:
        return Outcome(status=None, stdout=b"", tail=f"cannot start {argv[0]}: {error.strerror}")
    try:
        async with asyncio.timeout(timeout):
            return await _converse(process, stdin, max_output)
    except TimeoutError:
        return Outcome(status=None, stdout=b"", tail=f"no end after {timeout:g} s")
    finally:
        await _end(process)


async def _start(
    argv: Sequence[str], environment: Mapping[str, str], stdin: int | BinaryIO
) -> asyncio.subprocess.Process:
    starting = asyncio.gather(
        asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**_ENVIRONMENT, **environment},
            cwd="/",
            start_new_session=True,
        )
    )
    try:
        # Cancelled in here, asyncio would end the first process only and wait for the others.
        return (await asyncio.shield(starting))[0]
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end((await starting)[0])
        raise


def _stdin(given: bytes | BinaryIO | None) -> int | BinaryIO:
    if isinstance(given, bytes):
        return asyncio.subprocess.PIPE
    return asyncio.subprocess.DEVNULL if given is None else given


async def _converse(
    process: asyncio.subprocess.Process, stdin: bytes | BinaryIO | None, max_output: int
) -> Outcome:
    async with asyncio.TaskGroup() as group:
        if isinstance(stdin, bytes):
            group.create_task(_feed(process, stdin))
        errors = group.create_task(_last(process.stderr, _TAIL))
        stdout = await _first(process.stdout, max_output + 1)
        if len(stdout) > max_output:
            _kill(process)
            await _last(process.stdout, 0)
    status = await process.wait()
    if len(stdout) > max_output:
        return Outcome(status=None, stdout=b"", tail=f"more than {max_output} bytes of output")
    return Outcome(status=status, stdout=stdout, tail=errors.result().decode(errors="replace"))


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    if process.stdin is None:
        return
    # git may end without reading all of it; its status tells why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _first(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    found = bytearray()
    while stream and len(found) < limit and (piece := await stream.read(65536)):
        found += piece
    return bytes(found)


async def _last(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    found = b""
    while stream and (piece := await stream.read(65536)):
        found = (found + piece)[-limit:] if limit else b""
    return found


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    _kill(process)
    await process.wait()
    # Unread output would keep the pipes open; a process that left the group may hold them.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            await asyncio.gather(_last(process.stdout, 0), _last(process.stderr, 0))
