"""Runs the containers' programs as the image does: isolated Python, one root on its path."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 20.0
_BOOT = "import sys; sys.path.insert(0, {root!r}); from {module} import main; sys.exit(main())"

Record = dict[str, Any]


class Program:
    """A running program: what it wrote so far, and a way to speak to it."""

    def __init__(self, proc: subprocess.Popen[bytes]) -> None:
        self.proc = proc
        self.lines: list[Record] = []
        self.raw = 0
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.proc.stdout is not None
        for line in self.proc.stdout:
            with self._news:
                self.raw = max(self.raw, len(line))
                self.lines.append(json.loads(line))
                self._news.notify_all()

    def read_to_the_end(self) -> None:
        self._reader.join(SECONDS)

    def write(self, data: bytes) -> None:
        assert self.proc.stdin is not None
        self.proc.stdin.write(data)
        self.proc.stdin.flush()

    def say(self, message: Record) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def send(self, key: str, msg: Record, *, to: str = "init") -> None:
        self.say({"key": key, "to": to, "msg": msg})

    def close_input(self) -> None:
        assert self.proc.stdin is not None
        self.proc.stdin.close()

    def kinds(self, kind: str, **fields: Any) -> list[Record]:
        return [
            line
            for line in list(self.lines)
            if line.get("kind") == kind and all(line.get(k) == v for k, v in fields.items())
        ]

    def wait(self, found: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """What `found` gives as soon as it gives something; asked with every line, and 20 times a second."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not (result := found()):
                assert time.monotonic() < deadline, self.lines[-20:]
                self._news.wait(0.05)
        return result

    def wait_line(self, kind: str, **fields: Any) -> Record:
        line: Record = self.wait(lambda: self.kinds(kind, **fields))[0]
        return line

    def ended(self) -> int:
        status = self.proc.wait(SECONDS)
        self.read_to_the_end()
        return status


@contextmanager
def program(
    module: str, *args: str, root: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    boot = _BOOT.format(root=str(root), module=module)
    argv: Sequence[str] = [sys.executable, "-I", "-c", boot, *args]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
    ) as proc:
        running = Program(proc)
        try:
            yield running
        finally:
            proc.terminate()
            try:
                proc.wait(5)
            except subprocess.TimeoutExpired:
                proc.kill()
            # Who still reads from a pipe must be done before it is closed.
            running.read_to_the_end()
