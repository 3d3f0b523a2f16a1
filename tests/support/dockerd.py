"""A Docker daemon of our own beside the machine's, which may be killed: nothing of the machine's is in its hands."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS = 90.0
"""To start: first it ends what its predecessor has left running."""


class Dockerd:
    """Needs root, as every daemon does that is not made for less."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bridge = f"errand{secrets.token_hex(3)}"
        self._net = secrets.randbelow(250) + 1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._root}/docker.sock"

    def make(self) -> None:
        """The network that gateways are in; it leads nowhere."""
        _run("ip", "link", "add", "name", self._bridge, "type", "bridge")
        _run("ip", "address", "add", f"10.213.{self._net}.1/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")

    def start(self) -> None:
        """Start, with what the last one left, and wait until it answers."""
        # Where nobody has buried the dead yet, they look alive to the next ones.
        for pid in ("docker.pid", "exec/containerd/containerd.pid"):
            (self._root / pid).unlink(missing_ok=True)
        with (self._root / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _found("dockerd"), "--host", self.url, "--data-root", str(self._root / "data"),
                    "--exec-root", str(self._root / "exec"), "--pidfile", str(self._root / "docker.pid"),
                    "--bridge", self._bridge, "--iptables=false", "--ip-masq=false", "--ip-forward=false",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + SECONDS
        while not self.answers():
            if time.monotonic() > until or self._process.poll() is not None:
                raise OSError((self._root / "dockerd.log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def answers(self) -> bool:
        # Not by the docker package, which leaves a socket open where it finds no server.
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(5)
            client.connect(str(self._root / "docker.sock"))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(1000)
        return False

    def load(self, *images: str) -> None:
        """The machine's images, under the same names."""
        command = [_found("docker"), "save", *images]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as saved:
            subprocess.run(
                [_found("docker"), "--host", self.url, "load"], stdin=saved.stdout, check=True,
                timeout=300, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def kill(self) -> None:
        """End it like a crash. Its containers go on until the next one ends them."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in self._orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for mount in reversed(_mounts(self._root)):
            _run("umount", "--lazy", mount)
        _run("ip", "link", "delete", self._bridge)

    def _orphans(self) -> list[int]:
        """What a daemon that was killed has left of its helpers: they name a socket of ours."""
        ours = f"{self._root}/exec/".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if ours in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found


@contextmanager
def dockerd(*images: str) -> Iterator[Dockerd]:
    """One that has these images; it and all that is in it is gone afterwards."""
    require_root()
    root = Path(tempfile.mkdtemp(prefix="errand-dockerd-"))
    made = Dockerd(root)
    try:
        made.make()
        try:
            made.start()
            made.load(*images)
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def require_root() -> None:
    """Skips where nobody may start a daemon; fails where everything must run."""
    if os.geteuid() == 0 and shutil.which("dockerd"):
        return
    if os.environ.get("CI"):
        pytest.fail("a Docker daemon of our own needs root, and `dockerd` on the PATH")
    pytest.skip("a Docker daemon of our own needs root, and `dockerd` on the PATH")


def _mounts(root: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if point.startswith(f"{root}/"))


def _run(*command: str) -> None:
    program, *arguments = command
    subprocess.run([_found(program), *arguments], check=True, capture_output=True, timeout=30)


def _found(program: str) -> str:
    return shutil.which(program) or program
