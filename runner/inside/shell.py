"""One bash that runs commands one after the other and keeps its state between them."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from runner.inside.asking import FUNCTION, Ask, Questions, read, reply
from runner.inside.children import kill_group, shell_status

TAIL_CHARACTERS = 4000
_READ_BYTES = 64 * 1024
_KEPT_BYTES = 4 * TAIL_CHARACTERS
# The commands' own descriptors are 0, 1 and 2; the two of this loop are closed for them.
# The two that `ask` speaks through stay open for them.
_LOOP = """\
while IFS= read -r -d '' -u {commands} ERRAND_STEP; do
  eval "$ERRAND_STEP" </dev/null {commands}<&- {results}>&-
  printf '%s\\n' "$?" >&{results}
done
"""


class Shell:
    """Close it when done; `kill` may be called from another thread."""

    def __init__(self, cwd: Path) -> None:
        commands, self._commands = os.pipe()
        self._results, results = os.pipe()
        self._questions, questions = os.pipe()
        answers, self._answers = os.pipe()
        ours = (self._commands, self._results, self._questions, self._answers)
        theirs = (commands, results, questions, answers)
        loop = FUNCTION.format(questions=questions, answers=answers)
        loop += _LOOP.format(commands=commands, results=results)
        argv = ["bash", "--noprofile", "--norc", "-O", "extglob", "-c", loop, "recipe"]
        try:
            self._proc = subprocess.Popen(  # noqa: S603 - to run recipes is this agent's purpose
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=theirs,
                start_new_session=True,
            )
        except OSError:
            _close(*ours)
            raise
        finally:
            _close(*theirs)

    def run(self, command: str, *, said: Callable[[str], None], ask: Ask) -> tuple[int, str, bool]:
        """Exit status, last output, and whether the shell is still there. `said` gets the tail as it grows.

        `ask` is called with what the command asks, and waits for the answer.
        """
        out = self._proc.stdout
        if out is None or not self._give(command):
            return 1, "", False
        tail = _Tail(said)
        poller = select.poll()
        poller.register(out, select.POLLIN)
        poller.register(self._results, select.POLLIN)
        poller.register(self._questions, select.POLLIN)
        asked = Questions()
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._questions in ready and not self._heed(asked, ask):
                poller.unregister(self._questions)
            if out.fileno() in ready and not tail.read(out):
                poller.unregister(out)
            if self._results in ready:
                line = os.read(self._results, _READ_BYTES)
                tail.drain(out)
                if line:
                    return int(line), tail.text(), True
                return shell_status(self._proc.wait()), tail.text(), False

    def _give(self, command: str) -> bool:
        left = memoryview(command.encode("utf-8", "replace") + b"\0")
        try:
            while left:
                left = left[os.write(self._commands, left) :]
        except BrokenPipeError:
            return False
        return True

    def _heed(self, asked: Questions, ask: Ask) -> bool:
        """Have what was asked answered; False once nobody can ask any more."""
        data = read(self._questions)
        for question in asked.feed(data):
            answer = ask(question[0], question[1:]) if question else None
            with contextlib.suppress(BrokenPipeError):
                reply(self._answers, answer)
        return bool(data)

    def kill(self) -> None:
        kill_group(self._proc.pid, signal.SIGKILL)

    def close(self) -> None:
        _close(self._commands, self._answers)
        self.kill()
        self._proc.wait()
        _close(self._results, self._questions)
        if self._proc.stdout is not None:
            self._proc.stdout.close()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Tail:
    def __init__(self, said: Callable[[str], None]) -> None:
        self._said = said
        self._data = b""

    def read(self, out: IO[bytes]) -> bool:
        data = os.read(out.fileno(), _READ_BYTES)
        self._data = (self._data + data)[-_KEPT_BYTES:]
        if data:
            self._said(self.text())
        return bool(data)

    def drain(self, out: IO[bytes]) -> None:
        """What was written before the command ended; a process in the background may write on."""
        poller = select.poll()
        poller.register(out, select.POLLIN)
        for _ in range(_KEPT_BYTES):
            if not poller.poll(0) or not self.read(out):
                return

    def text(self) -> str:
        return self._data.decode("utf-8", "replace")[-TAIL_CHARACTERS:]
