"""Commands of the worker in the agent's container: one at a time, with a time limit and a recorded end."""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from runner.inside.children import Children, kill_group, shell_status
from runner.inside.pieces import pump

TIMED_OUT = 124
NOT_EXECUTABLE = 126
NOT_FOUND = 127
OUTPUT_BYTES = 2 * 1024 * 1024
_TAIL_BYTES = 4000
_MOST_TAIL_BYTES = 64 * 1024
_HANDED_ON_SECONDS = 0.3
_AFTER_KILL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    key: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    timeout: float
    tail: int
    apart: bool
    """Standard error is told apart from standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    status: int
    tail: str


def texts(value: object) -> tuple[str, ...] | None:
    """A list of texts without NUL, or None."""
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) and "\0" not in item for item in value):
        return None
    return tuple(value)


def environment(value: object) -> dict[str, str] | None:
    """A mapping of names to texts, or None."""
    if not isinstance(value, dict):
        return None
    if texts(list(value)) is None or texts(list(value.values())) is None:
        return None
    return None if any(not name or "=" in name for name in value) else dict(value)


def number(value: object, *, default: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if usable and isinstance(value, int | float) else default


def read_exec(key: str, msg: Mapping[str, Any]) -> Exec | None:
    """None if the message cannot be acted on."""
    argv, env = texts(msg.get("argv")), environment(msg.get("env", {}))
    cwd = msg.get("cwd", "/workspace")
    if not argv or env is None or not isinstance(cwd, str) or "\0" in cwd:
        return None
    return Exec(
        key=key,
        argv=argv,
        cwd=Path(cwd),
        env=env,
        timeout=number(msg.get("timeout"), default=3600.0),
        tail=min(_MOST_TAIL_BYTES, int(number(msg.get("tail"), default=_TAIL_BYTES))),
        apart=msg.get("apart") is True,
    )


class _Watch:
    """Says whether a command's output is still to be read; kills the command's group at its deadline."""

    def __init__(
        self,
        proc: subprocess.Popen[bytes],
        *,
        children: Children,
        timeout: float,
        unwanted: Callable[[], bool],
    ) -> None:
        self._proc = proc
        self._unwanted = unwanted
        self._children = children
        self._deadline = time.monotonic() + timeout
        self._until: float | None = None
        self.timed_out = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._until is not None:
            return now < self._until
        if now >= self._deadline:
            self.timed_out = True
            kill_group(self._proc.pid)
            self._until = now + _HANDED_ON_SECONDS
        elif self._unwanted():
            kill_group(self._proc.pid)
            self._until = now + _HANDED_ON_SECONDS
        elif self._children.ended(self._proc):
            # A process left in the background may hold the pipe open for ever.
            self._until = now + _HANDED_ON_SECONDS
        return True

    def finish(self) -> int:
        """The status, once the output is read: the command may have closed it and gone on."""
        left = max(0.0, self._deadline - time.monotonic())
        if not self.timed_out and not self._children.wait(self._proc, left):
            self.timed_out = True
            kill_group(self._proc.pid)
        self._children.wait(self._proc, _AFTER_KILL_SECONDS)
        if self.timed_out or self._proc.returncode is None:
            return TIMED_OUT
        return shell_status(self._proc.returncode)


class _Tail:
    def __init__(self, size: int) -> None:
        self._size = size
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data
        del self._data[: -self._size]

    def text(self) -> str:
        return self._data.decode("utf-8", "replace")


def run(
    command: Exec,
    *,
    children: Children,
    env: Mapping[str, str],
    emit: Callable[[str, str], None],
    unwanted: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run to the end or the time limit, or until it is unwanted: then it is killed.

    `emit` gets the name of a stream and a piece of it.
    """
    try:
        proc = children.spawn(
            command.argv,
            env={**env, **command.env},
            cwd=command.cwd,
            stderr=subprocess.PIPE if command.apart else subprocess.STDOUT,
        )
    except FileNotFoundError as exc:
        return _not_run(NOT_FOUND, f"{exc.filename}: {exc.strerror}", emit)
    except (OSError, ValueError) as exc:
        return _not_run(NOT_EXECUTABLE, f"{command.argv[0]}: {exc}", emit)
    watch = _Watch(proc, children=children, timeout=command.timeout, unwanted=unwanted)
    tail = _Tail(command.tail)
    streams = [("stdout", proc.stdout), ("stderr", proc.stderr)]
    with proc:
        reads = [
            partial(_read, out, watch=watch, tail=tail, emit=partial(emit, name))
            for name, out in streams
            if out is not None
        ]
        others = [threading.Thread(target=read) for read in reads[1:]]
        try:
            for other in others:
                other.start()
        except RuntimeError:
            # The container is full of threads. Whoever made them may end, and the next command find room.
            kill_group(proc.pid)
            watch.finish()
            return _not_run(NOT_EXECUTABLE, f"{command.argv[0]}: no thread is left", emit)
        reads[0]()
        for other in others:
            other.join()
        status = watch.finish()
    return Ended(status=status, tail=tail.text())


def _not_run(status: int, why: str, emit: Callable[[str, str], None]) -> Ended:
    emit("stderr", f"{why}\n")
    return Ended(status=status, tail=why)


def _read(out: IO[bytes], *, watch: _Watch, tail: _Tail, emit: Callable[[str], None]) -> None:
    pump(out.fileno(), emit=emit, cap_bytes=OUTPUT_BYTES, watch=watch, keep=tail.add)
    out.close()
