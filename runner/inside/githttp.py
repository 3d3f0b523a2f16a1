"""http://git.internal: git's smart HTTP for pushing one branch of one repository, and for fetching what may be read."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from policies.egress import Allow
from runner.inside import gitfetch
from runner.inside.audit import Audit, Dialled
from runner.inside.errors import BodyError, GitReadError
from runner.inside.gitfetch import Readable
from runner.inside.httphead import Head, response
from runner.inside.incoming import Incoming
from runner.inside.quarantine import Quarantine
from runner.inside.splice import farewell
from runner.inside.wire import Transcript

HOST = "git.internal"
_DIALLED = Dialled(host=HOST, port=80)
_SERVICE = "git-receive-pack"
_FETCH = "git-upload-pack"
_TARGET = re.compile(
    r"/([^/?]{1,100}/[^/?]{1,100})\.git(/info/refs\?service=git-upload-pack|/git-upload-pack)"
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ANSWER = (
    "HTTP/1.1 200 OK\r\ncontent-type: application/x-{}-{}\r\n"
    "cache-control: no-cache\r\nconnection: close\r\n\r\n"
)


class GitEndpoint:
    def __init__(
        self, *, quarantine: Quarantine, readable: Readable, transcript: Transcript, audit: Audit
    ) -> None:
        self._quarantine = quarantine
        self._readable = readable
        self._transcript = transcript
        self._audit = audit

    def serve(self, incoming: Incoming, head: Head) -> None:
        """Answer one request. Raises OSError, BodyError."""
        target = self._quarantine.target
        path = f"/{target.repo}.git" if target else None
        fetch = _TARGET.fullmatch(head.target)
        if head.host != HOST:
            self._turn_away(incoming, head, "There is nothing here but git's repositories.")
        elif fetch is not None:
            self._serve_fetch(incoming, head, fetch[1])
        elif path and (head.method, head.target) == ("GET", f"{path}/info/refs?service={_SERVICE}"):
            self._advertise(incoming)
        elif path and (head.method, head.target) == ("POST", f"{path}/{_SERVICE}"):
            self._receive(incoming, head)
        else:
            self._turn_away(incoming, head, "Push to the repository of this task.")

    def _turn_away(self, incoming: Incoming, head: Head, reason: str) -> None:
        self._audit.deny(_DIALLED, reason, method=head.method, path=head.path)
        _say(incoming, "404 Not Found", reason)

    def _serve_fetch(self, incoming: Incoming, head: Head, repo: str) -> None:
        mirror = self._readable.find(repo)
        if mirror is None:
            reason = f"{repo} is not among the repositories that this run may read"
            self._deny(head, reason, repo)
            _say(
                incoming,
                "403 Forbidden",
                f"{reason}: whoever edits the policy can list it under `reads`.",
            )
        elif head.method == "GET":
            self._advertise_fetch(incoming, mirror, repo)
        elif head.method == "POST":
            self._upload(incoming, head, mirror)
        else:
            _say(incoming, "405 Method Not Allowed", "Only fetching is possible here.")

    def _deny(self, head: Head, reason: str, repo: str) -> None:
        self._audit.deny(_DIALLED, reason, rule="reads", method=head.method, path=f"/{repo}.git")

    def _advertise_fetch(self, incoming: Incoming, mirror: Path, repo: str) -> None:
        allow = Allow(host=HOST, port=_DIALLED.port, scheme="http", rule="reads", private=False)
        self._audit.allow(allow, "", method="GET", path=f"/{repo}.git")
        try:
            refs = gitfetch.advertise(mirror)
        except GitReadError:
            _say(incoming, "500 Internal Server Error", "The repository cannot be read.")
            return
        farewell(incoming.sock, _advertisement(_FETCH, refs))

    def _upload(self, incoming: Incoming, head: Head, mirror: Path) -> None:
        encoding = head.value(b"content-encoding")
        if encoding not in {"", "identity", "gzip"}:
            _say(incoming, "415 Unsupported Media Type", "Send the request as it is, or as gzip.")
            return
        if not _is_request(incoming, head, _FETCH):
            return
        sent = incoming.body(head.length)
        body = gitfetch.inflated(sent) if encoding == "gzip" else sent
        limited = _at_most(body, gitfetch.REQUEST_BYTES, what="request")
        gitfetch.upload(mirror, limited, out=incoming.sock.sendall)
        farewell(incoming.sock, b"")

    def _advertise(self, incoming: Incoming) -> None:
        try:
            refs = self._quarantine.advertise()
        except GitReadError:
            _say(incoming, "500 Internal Server Error", "The quarantine cannot be read.")
            return
        farewell(incoming.sock, _advertisement(_SERVICE, refs))

    def _receive(self, incoming: Incoming, head: Head) -> None:
        if head.value(b"content-encoding") not in {"", "identity"}:
            _say(incoming, "415 Unsupported Media Type", "Send the request uncompressed.")
            return
        if not _is_request(incoming, head, _SERVICE):
            return
        body = _at_most(incoming.body(head.length), self._quarantine.most_bytes, what="push")
        result = self._quarantine.receive(body, out=incoming.sock.sendall)
        if result is not None:
            self._transcript.write(
                "push",
                verdict="accept" if result.accepted else "refuse",
                reason=result.reason,
                head=result.head,
            )
        farewell(incoming.sock, b"")


def _is_request(incoming: Incoming, head: Head, service: str) -> bool:
    """Then its answer has begun; else it has been refused."""
    if head.value(b"content-type") != f"application/x-{service}-request":
        _say(incoming, "415 Unsupported Media Type", f"This is no request for {service}.")
        return False
    if head.expects_continue:
        incoming.sock.sendall(_CONTINUE)
    incoming.sock.sendall(_ANSWER.format(service, "result").encode("ascii"))
    return True


def _advertisement(service: str, refs: bytes) -> bytes:
    first = f"# service={service}\n"
    line = f"{len(first) + 4:04x}{first}0000"
    return (_ANSWER.format(service, "advertisement") + line).encode("ascii") + refs


def _at_most(body: Iterable[bytes], limit: int, *, what: str) -> Iterator[bytes]:
    for data in body:
        limit -= len(data)
        if limit < 0:
            raise BodyError(f"the {what} is too large")
        yield data


def _say(incoming: Incoming, status: str, sentence: str) -> None:
    farewell(incoming.sock, response(status, body=f"{sentence}\n"))
