"""http://git.internal: git's smart HTTP for pushing one branch of one repository, and nothing else."""

from collections.abc import Iterable, Iterator

from runner.inside.errors import BodyError, GitReadError
from runner.inside.httphead import Head, response
from runner.inside.incoming import Incoming
from runner.inside.quarantine import Quarantine
from runner.inside.splice import farewell
from runner.inside.wire import Transcript

HOST = "git.internal"
_SERVICE = "git-receive-pack"
_FETCH = "git-upload-pack"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ANSWER = (
    "HTTP/1.1 200 OK\r\ncontent-type: application/x-git-receive-pack-{}\r\n"
    "cache-control: no-cache\r\nconnection: close\r\n\r\n"
)


class GitEndpoint:
    def __init__(self, *, quarantine: Quarantine, transcript: Transcript) -> None:
        self._quarantine = quarantine
        self._transcript = transcript

    def serve(self, incoming: Incoming, head: Head) -> None:
        """Answer one request. Raises OSError, BodyError."""
        target = self._quarantine.target
        path = f"/{target.repo}.git" if target else None
        if path is None or head.host != HOST:
            _say(incoming, "404 Not Found", "There is nothing to push to in this run.")
        elif (head.method, head.target) == ("GET", f"{path}/info/refs?service={_SERVICE}"):
            self._advertise(incoming)
        elif (head.method, head.target) == ("POST", f"{path}/{_SERVICE}"):
            self._receive(incoming, head)
        elif head.target.startswith((f"{path}/info/refs", f"{path}/{_FETCH}")):
            _say(incoming, "403 Forbidden", "Only pushing is possible here: the clone is complete.")
        else:
            _say(incoming, "404 Not Found", "Push to the repository of this task.")

    def _advertise(self, incoming: Incoming) -> None:
        try:
            refs = self._quarantine.advertise()
        except GitReadError:
            _say(incoming, "500 Internal Server Error", "The quarantine cannot be read.")
            return
        service = f"# service={_SERVICE}\n"
        first = f"{len(service) + 4:04x}{service}0000".encode("ascii")
        farewell(incoming.sock, _ANSWER.format("advertisement").encode("ascii") + first + refs)

    def _receive(self, incoming: Incoming, head: Head) -> None:
        if head.value(b"content-encoding") not in {"", "identity"}:
            _say(incoming, "415 Unsupported Media Type", "Send the request uncompressed.")
            return
        if head.value(b"content-type") != f"application/x-{_SERVICE}-request":
            _say(incoming, "415 Unsupported Media Type", "This is no request of git push.")
            return
        if head.expects_continue:
            incoming.sock.sendall(_CONTINUE)
        incoming.sock.sendall(_ANSWER.format("result").encode("ascii"))
        body = _at_most(incoming.body(head.length), self._quarantine.most_bytes)
        result = self._quarantine.receive(body, out=incoming.sock.sendall)
        if result is not None:
            self._transcript.write(
                "push",
                verdict="accept" if result.accepted else "refuse",
                reason=result.reason,
                head=result.head,
            )
        farewell(incoming.sock, b"")


def _at_most(body: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for data in body:
        limit -= len(data)
        if limit < 0:
            raise BodyError("the push is too large")
        yield data


def _say(incoming: Incoming, status: str, sentence: str) -> None:
    farewell(incoming.sock, response(status, body=f"{sentence}\n"))
