"""A real git server over smart HTTP on 127.0.0.1, with a token: the git side of a GitHub in tests.

`git http-backend` does the work; this is its web server. It remembers what was asked, and it can answer
with an error or cut the line after a push that took effect.
"""

import base64
import contextlib
import hmac
import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from typing_extensions import override

TOKEN: Final = "git-server-token"
_SECONDS = 30
Cut = Literal["before", "within"]
"""Git sends a request again by itself when not a byte of an answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRequest:
    method: str
    path: str
    """With its query."""
    status: int


@dataclass(slots=True, kw_only=True)
class GitServer:
    root: Path
    """The bare repositories: `<root>/<owner>/<name>.git`."""
    token: str
    url: str = ""
    """Without a slash at the end: `<url>/<owner>/<name>.git`."""
    requests: list[GitRequest] = field(default_factory=list)
    errors: deque[int] = field(default_factory=deque)
    """Statuses that the next requests are answered with, instead of doing anything."""
    cuts: deque[Cut] = field(default_factory=deque)
    """The next pushes take effect, and the line is cut before or within the answer."""

    @property
    def header(self) -> str:
        """What a client with the token sends."""
        return f"Authorization: Basic {base64.b64encode(f'x-access-token:{self.token}'.encode()).decode()}"

    def git_dir(self, repo: str) -> Path:
        return self.root / f"{repo}.git"

    def create(self, repo: str, files: Mapping[str, str], *, branch: str = "main") -> str:
        """A repository with one commit; its SHA."""
        git_dir = self.git_dir(repo)
        git_dir.parent.mkdir(parents=True, exist_ok=True)
        run_git(git_dir, "init", "--bare", "--quiet", "--template=", f"--initial-branch={branch}")
        return commit(git_dir, files, branch=branch, message="Initial commit")

    def sha(self, repo: str, branch: str) -> str | None:
        """What the branch is at, as the server sees it."""
        listed = run_git(
            self.git_dir(repo), "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}"
        )
        return listed.decode().strip() or None

    def pushes(self) -> list[GitRequest]:
        """Pushes that the server has worked on."""
        return [r for r in self.requests if r.method == "POST" and "git-receive-pack" in r.path]


@contextlib.contextmanager
def git_server(root: Path, *, token: str = TOKEN) -> Iterator[GitServer]:
    state = GitServer(root=root, token=token)
    with _Server(("127.0.0.1", 0), _Request) as server:
        server.git = state
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def run_git(git_dir: Path, *args: str, stdin: bytes = b"") -> bytes:
    """Git in a test: no configuration but the repository's."""
    return subprocess.run(
        ["git", f"--git-dir={git_dir}", *args],  # noqa: S607 - the git of whoever runs the tests
        env=_environment(),
        input=stdin,
        capture_output=True,
        check=True,
        timeout=_SECONDS,
    ).stdout


def commit(
    git_dir: Path,
    files: Mapping[str, str],
    *,
    branch: str,
    message: str = "Change",
    parent: str | None = None,
) -> str:
    """A commit made without a worktree, on top of `parent` (a branch or a SHA) if given; its SHA."""
    lines = [f"commit refs/heads/{branch}", "committer Dana <dana@acme.example> 1763640000 +0000"]
    lines += [f"data {len(message.encode())}", message]
    lines += [f"from {run_git(git_dir, 'rev-parse', parent).decode().strip()}"] if parent else []
    for path, content in files.items():
        lines += [f"M 100644 inline {path}", f"data {len(content.encode())}", content]
    stream = "\n".join([*lines, ""]).encode()
    run_git(git_dir, "fast-import", "--quiet", "--force", stdin=stream)
    return run_git(git_dir, "rev-parse", f"refs/heads/{branch}").decode().strip()


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    git: GitServer

    @override
    def server_bind(self) -> None:
        # HTTPServer's own asks the DNS for the host's name.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the requests are remembered instead."""

    def _respond(self) -> None:
        body = self._body()
        git = self.server.git
        pushing = self.command == "POST" and self.path.endswith("/git-receive-pack")
        if git.errors:
            self._plain(git.errors.popleft())
        elif not self._authorized():
            self._plain(HTTPStatus.UNAUTHORIZED)
        elif pushing and git.cuts:
            self._cut(git.cuts.popleft(), self._backend(body))
        else:
            self._relay(self._backend(body))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _authorized(self) -> bool:
        expected = self.server.git.header.removeprefix("Authorization: ")
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), expected.encode())

    def _backend(self, body: bytes) -> bytes:
        parts = urlsplit(self.path)
        return subprocess.run(
            ["git", "http-backend"],  # noqa: S607 - as above
            env={
                **_environment(),
                "GIT_PROJECT_ROOT": str(self.server.git.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "REMOTE_USER": "x-access-token",
                "REMOTE_ADDR": "127.0.0.1",
            },
            input=body,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_SECONDS,
        ).stdout

    def _relay(self, answer: bytes) -> None:
        """A CGI program's answer: headers, among them perhaps `Status`, an empty line, the body."""
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        self._send(status, headers, body)

    def _cut(self, where: Cut, answer: bytes) -> None:
        self._remember(0)
        if where == "within":
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
        self.close_connection = True

    def _plain(self, status: int) -> None:
        headers = {"WWW-Authenticate": 'Basic realm="git"'} if status == 401 else {}
        self._send(status, {**headers, "Content-Type": "text/plain"}, b"")

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._remember(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _remember(self, status: int) -> None:
        request = GitRequest(method=self.command, path=self.path, status=status)
        self.server.git.requests.append(request)
