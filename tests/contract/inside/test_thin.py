"""The client of the broker against a server on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typing_extensions import override

from runner.inside.thin import ask


@contextmanager
def answering(status: int, body: str) -> Iterator[tuple[int, list[object]]]:
    asked: list[object] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def test_arguments_go_and_output_and_status_come(capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"status": 3, "stdout": "out\n", "stderr": "err\n"})
    with answering(200, body) as (port, asked):
        assert ask("gh", ["pr", "view"], host="127.0.0.1", port=port) == 3
    assert asked == [{"tool": "gh", "argv": ["pr", "view"]}]
    assert capsys.readouterr() == ("out\n", "err\n")


def test_a_refusal_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(403, "This repository's policy has no broker for gh.") as (port, _):
        assert ask("gh", [], host="127.0.0.1", port=port) == 1
    assert "no broker for gh" in capsys.readouterr().err


def test_no_broker_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, "") as (port, _):
        pass
    assert ask("gh", [], host="127.0.0.1", port=port) == 1
    assert "does not answer" in capsys.readouterr().err
