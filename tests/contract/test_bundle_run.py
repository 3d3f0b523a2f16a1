"""A bundle out of a container, whole however its bytes arrive."""

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import ClassVar

import docker
import pytest
from typing_extensions import override

from runner.docker.quarantine import BundleRun
from runner.errors import SandboxLostError

HEAD = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
BUNDLE = b"# v2 git bundle\n" + b"x" * 1000


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(data)) + data


class Daemon(BaseHTTPRequestHandler):
    """Answers one `exec`, its output in the same breath as the head of the answer."""

    protocol_version = "HTTP/1.1"
    output: ClassVar[bytes]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/start"):
            self.wfile.write(HEAD + self.output)
            self.close_connection = True
        else:
            self._say({"Id": "e1"})

    def do_GET(self) -> None:
        self._say({"ExitCode": 0})

    def _say(self, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """A unix socket's other end has no address to log."""


@contextmanager
def run_of(home: Path, output: bytes) -> Iterator[BundleRun]:
    class Ours(Daemon):
        pass

    Ours.output = output
    with ThreadingUnixStreamServer(f"{home}/d.sock", Ours) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = docker.APIClient(base_url=f"unix://{home}/d.sock", version="1.41", timeout=5)
        try:
            yield BundleRun(client, container="gateway", command=["git"])
        finally:
            client.close()
            server.shutdown()


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("d")


def test_output_that_comes_with_the_head_of_the_answer_is_not_lost(home: Path) -> None:
    with run_of(home, frame(1, BUNDLE[:10]) + frame(2, b"hm") + frame(1, BUNDLE[10:])) as run:
        stream = run.start()
        pieces = list(stream)
        stream.release()
        run.finish()
        assert b"".join(out for out, _ in pieces if out) == BUNDLE
        assert [said for _, said in pieces if said] == [b"hm"]


def test_output_that_breaks_off_is_told(home: Path) -> None:
    with run_of(home, frame(1, BUNDLE)[:-10]) as run:
        stream = run.start()
        with pytest.raises(SandboxLostError):
            list(stream)
        stream.release()
