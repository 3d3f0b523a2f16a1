"""Git's own services for the smart HTTP protocol, run for one request each."""

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import IO

from runner.inside.children import kill_group
from runner.inside.errors import GitReadError
from runner.inside.gitread import GIT_ENV

SERVICE_SECONDS = 120.0
_READ_BYTES = 64 * 1024
_REPORT_BYTES = 64 * 1024
_REFUSED = re.compile(rb"[0-9a-f]{4}ng refs/\S+ ([^\n\0]{1,200})|(fatal: [^\n\0]{1,200})")

# Where one packet of a side band ends and the next begins, perhaps within a word.
_SEAM = re.compile(rb"[0-9a-f]{4}[\x01-\x03]")


class Session:
    """One service of git, as `git receive-pack`, between a client's request and its response."""

    def __init__(self, argv: list[str], *, seconds: float = SERVICE_SECONDS) -> None:
        self._argv = argv
        self._seconds = seconds
        self._report = b""
        self._size = 0

    @property
    def carried(self) -> bool:
        """False for the flush packet alone, with which clients try whether they may push."""
        return self._size > len(b"0000")

    def refusal(self) -> str:
        match = _REFUSED.search(_SEAM.sub(b"", self._report))
        found = match and (match[1] or match[2])
        return f"git: {found.decode('utf-8', 'replace')}" if found else "git refused the push"

    def exchange(self, body: Iterable[bytes], *, out: Callable[[bytes], None]) -> None:
        with _spawn(self._argv) as proc:
            if proc.stdin is None or proc.stdout is None:
                return
            timer = threading.Timer(self._seconds, kill_group, (proc.pid,))
            reader = threading.Thread(target=self._answer, args=(proc.stdout, out), daemon=True)
            timer.start()
            reader.start()
            try:
                self._feed(body, proc.stdin)
                reader.join()
            finally:
                kill_group(proc.pid)
                timer.cancel()
                reader.join()
                with contextlib.suppress(OSError):
                    proc.stdin.close()

    def _feed(self, body: Iterable[bytes], stdin: IO[bytes]) -> None:
        for data in body:
            self._size += len(data)
            # Git may refuse early; the rest of the request is read all the same, to be answered.
            with contextlib.suppress(BrokenPipeError):
                stdin.write(data)
        with contextlib.suppress(BrokenPipeError):
            stdin.close()

    def _answer(self, stdout: IO[bytes], out: Callable[[bytes], None]) -> None:
        listening = True
        while data := os.read(stdout.fileno(), _READ_BYTES):
            self._report = (self._report + data)[-_REPORT_BYTES:]
            try:
                if listening:
                    out(data)
            except OSError:
                # Whoever asked is gone; git still has to be read to its end.
                listening = False


def _spawn(argv: list[str], env: Mapping[str, str] = GIT_ENV) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - arguments are ours
        argv,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def advertised(argv: list[str]) -> bytes:
    """What a service says before it is asked. Raises GitReadError."""
    with _spawn(argv) as proc:
        try:
            out, _ = proc.communicate(timeout=SERVICE_SECONDS)
        except subprocess.TimeoutExpired as exc:
            kill_group(proc.pid)
            raise GitReadError("info/refs", "took too long") from exc
    if proc.returncode:
        raise GitReadError("info/refs", f"status {proc.returncode}")
    return out
