"""Child processes of a container's first process: spawned in groups, reaped, and killed by group."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ENV: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "GIT_TERMINAL_PROMPT": "0",
}
_SIGNALLED = 128


def shell_status(returncode: int) -> int:
    """An exit status as a shell shows it: 128 + n after signal n."""
    return returncode if returncode >= 0 else _SIGNALLED - returncode


class Children:
    """Knows which processes are ours to wait for, so that everybody else's orphans can be reaped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.Popen[bytes]:
        """Start a process that leads its own session and group; stdout is a pipe. Raises OSError, ValueError."""
        with self._lock:
            proc = subprocess.Popen(  # noqa: S603 - to run what it is told is this program's purpose
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
            self._live[proc.pid] = proc
        return proc

    def ended(self, proc: subprocess.Popen[bytes]) -> bool:
        """True once the process is gone, and waited for."""
        with self._lock:
            if proc.poll() is None:
                return False
            self._live.pop(proc.pid, None)
            return True

    def wait(self, proc: subprocess.Popen[bytes], seconds: float | None = None) -> bool:
        """True if the process ended within the time."""
        # WNOWAIT leaves the zombie, so that its id stays ours until `ended` forgets it.
        with contextlib.suppress(ChildProcessError):
            if seconds is None:
                os.waitid(os.P_PID, proc.pid, os.WEXITED | os.WNOWAIT)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    proc.wait(seconds)
        return self.ended(proc)

    def reap_orphans(self) -> int:
        """Collect zombies that nobody else will; they come to the first process of a container."""
        count = 0
        with self._lock, contextlib.suppress(ChildProcessError):
            while (pid := _waiting()) and pid not in self._live:
                os.waitpid(pid, 0)
                count += 1
        return count

    def signal_all(self, number: signal.Signals) -> None:
        with self._lock:
            pids = list(self._live)
        for pid in pids:
            kill_group(pid, number)

    def stop_all(self, *, grace_seconds: float) -> None:
        """Terminate every group, and kill what is left after the grace."""
        self.signal_all(signal.SIGTERM)
        with self._lock:
            procs = list(self._live.values())
        for proc in procs:
            self.wait(proc, grace_seconds / len(procs))
        for proc in procs:
            kill_group(proc.pid, signal.SIGKILL)


def kill_group(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _waiting() -> int:
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found.si_pid if found else 0
