"""`errand` as a process, in a directory of its own, with nothing of ours in its environment."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import ROOT
from tests.support.ports import free_port


@dataclass(slots=True)
class Place:
    """A directory in which an operator sits, and what she types."""

    root: Path
    port: int = field(default_factory=free_port)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.root / "d"

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        outside = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        ours = {
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "default",
            "ERRAND_DATA_DIR": str(self.data),
            "ERRAND_HTTP__PORT": str(self.port),
            "ERRAND_INSTALLATION": f"cli-{self.port}",
        }
        return outside | ours | settings

    def errand(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bot", *words],
            cwd=self.root, env=self.environment(settings), capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=60, check=False,
        )  # fmt: skip

    def json(self, *words: str, **settings: str) -> Any:
        done = self.errand(*words, "--json", **settings)
        return json.loads(done.stdout)

    def start(self, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{words[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bot", *words],
                cwd=self.root, env=self.environment(settings), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self.started.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()


@pytest.fixture
def place() -> Iterator[Place]:
    # Not tmp_path: the name of a Unix socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="errand-cli-") as directory:
        made = Place(root=Path(directory))
        try:
            yield made
        finally:
            for process in made.started:
                process.kill()
                process.wait()
            with suppress(OSError, ValueError):
                os.kill(int((made.data / "valkey/valkey.pid").read_text()), signal.SIGKILL)
