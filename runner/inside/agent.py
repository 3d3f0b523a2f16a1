"""The agent's process inside its container: its standard streams become lines of the transcript."""

import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from runner.inside.children import Children, kill_group, shell_status
from runner.inside.execs import NOT_EXECUTABLE, environment, texts
from runner.inside.pieces import pump
from runner.inside.wire import Transcript, bounded_lines, cut

STDERR_BYTES = 1024 * 1024
_AGENT_LINE_BYTES = 16 * 1024 * 1024
_NOISE_CHARACTERS = 4000
_DRAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.5


class Agent:
    """At most one agent at a time; lines for it wait until it is started."""

    def __init__(
        self, *, transcript: Transcript, children: Children, env: Mapping[str, str]
    ) -> None:
        self._transcript = transcript
        self._children = children
        self._env = env
        self._letters: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = False
        self._proc: subprocess.Popen[bytes] | None = None

    def send(self, msg: dict[str, Any]) -> None:
        self._letters.put(msg)

    def start(self, msg: Mapping[str, Any]) -> None:
        argv, env = texts(msg.get("argv")), environment(msg.get("env", {}))
        cwd = msg.get("cwd", "/workspace")
        if not argv or env is None or not isinstance(cwd, str):
            self._refuse("start_agent is not understood")
            return
        with self._lock:
            if self._running:
                self._transcript.write("noise", text="an agent is running already")
                return
            self._running = True
        try:
            proc = self._children.spawn(
                argv,
                env={**self._env, **env},
                cwd=Path(cwd),
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, ValueError) as exc:
            self._running = False
            self._refuse(f"{argv[0]}: {exc}")
            return
        self._proc = proc
        try:
            threading.Thread(target=self._follow, args=(proc,), daemon=True).start()
        except RuntimeError:
            self._give_up(proc)

    def end(self, *, after_seconds: float) -> None:
        """Kill it if it is still there then."""
        proc = self._proc
        if proc is None:
            return
        timer = threading.Timer(after_seconds, self._kill, args=(proc,))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            # The container has no thread left to wait with.
            self._kill(proc)

    def _kill(self, proc: subprocess.Popen[bytes]) -> None:
        if not self._children.ended(proc):
            kill_group(proc.pid)

    def _give_up(self, proc: subprocess.Popen[bytes]) -> None:
        """The container has no thread left to attend to it."""
        kill_group(proc.pid)
        self._children.wait(proc)
        self._running = False
        self._refuse("the container has no room for another thread")

    def _refuse(self, reason: str) -> None:
        self._transcript.write("stderr", text=reason)
        self._transcript.write("agent_exit", status=NOT_EXECUTABLE)

    def _follow(self, proc: subprocess.Popen[bytes]) -> None:
        ended = threading.Event()
        readers = [
            threading.Thread(target=self._read_lines, args=(proc,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(proc, ended), daemon=True),
        ]
        writer = threading.Thread(target=self._write_lines, args=(proc, ended), daemon=True)
        try:
            for thread in (*readers, writer):
                thread.start()
        except RuntimeError:
            ended.set()
            self._give_up(proc)
            return
        self._children.wait(proc)
        # What the agent left in its group would hold the pipes open.
        kill_group(proc.pid)
        for thread in readers:
            thread.join(_DRAIN_SECONDS)
        ended.set()
        writer.join(_DRAIN_SECONDS)
        self._running = False
        self._transcript.write("agent_exit", status=shell_status(proc.returncode))

    def _read_lines(self, proc: subprocess.Popen[bytes]) -> None:
        if proc.stdout is None:
            return
        for line, too_long in bounded_lines(proc.stdout, _AGENT_LINE_BYTES):
            self._record(line, too_long=too_long)

    def _record(self, line: bytes, *, too_long: bool) -> None:
        msg = None if too_long else _message(line)
        if msg is not None:
            self._transcript.write("agent", msg=msg)
        elif line.strip():
            text = line[: 4 * _NOISE_CHARACTERS].decode("utf-8", "replace")
            self._transcript.write("noise", text=cut(text, _NOISE_CHARACTERS))

    def _read_stderr(self, proc: subprocess.Popen[bytes], ended: threading.Event) -> None:
        if proc.stderr is None:
            return
        pump(
            proc.stderr.fileno(),
            emit=lambda text: self._transcript.write("stderr", text=text),
            cap_bytes=STDERR_BYTES,
            watch=lambda: not ended.is_set(),
        )

    def _write_lines(self, proc: subprocess.Popen[bytes], ended: threading.Event) -> None:
        if proc.stdin is None:
            return
        while not ended.is_set():
            try:
                msg = self._letters.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if not _put(proc.stdin, msg):
                return


def _put(stdin: IO[bytes], msg: dict[str, Any]) -> bool:
    try:
        stdin.write(json.dumps(msg, separators=(",", ":")).encode() + b"\n")
        stdin.flush()
    except (OSError, ValueError):
        return False
    return True


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
