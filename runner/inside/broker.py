"""http://broker.internal: a command that is run elsewhere. The question leaves with the transcript, the answer comes on stdin.

Nothing here decides what may run: `serve` does, which has the policy and the access.
"""

import json
import queue
import threading
from collections.abc import Mapping
from typing import Any

from runner.inside.audit import Audit, Dialled
from runner.inside.execs import texts
from runner.inside.httphead import Head, response
from runner.inside.incoming import Incoming
from runner.inside.splice import farewell
from runner.inside.wire import Transcript

HOST = "broker.internal"
PATH = "/run"
BODY_BYTES = 64 * 1024
ANSWER_SECONDS = 120.0
MOST_QUESTIONS = 200
_AT_ONCE = 4
_DIALLED = Dialled(host=HOST, port=80)
_TOO_MANY = "Too many commands for the broker in this run."
_NO_ANSWER = "The broker has no answer: try again later."


class Broker:
    def __init__(
        self, transcript: Transcript, *, audit: Audit, seconds: float = ANSWER_SECONDS
    ) -> None:
        self._transcript = transcript
        self._audit = audit
        self._seconds = seconds
        self._tools: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._asked = 0
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}

    def load(self, tools: object) -> None:
        """The policy's word on which there are; none, if it is not understood."""
        self._tools = frozenset(texts(tools) or ())

    def serve(self, incoming: Incoming, head: Head) -> None:
        """Answer one request. Raises OSError, BodyError."""
        if head.host != HOST or (head.method, head.target) != ("POST", PATH):
            self._turn_away(incoming, "404 Not Found", "Nothing is here.", head)
            return
        question = _question(incoming, head)
        if question is None:
            self._turn_away(incoming, "400 Bad Request", "The question is not understood.", head)
            return
        tool, argv = question
        if tool not in self._tools:
            reason = f"This repository's policy has no broker for {tool[:100]}."
            self._refuse(incoming, "403 Forbidden", reason, tool=tool, argv=argv)
            return
        self._ask(incoming, tool, argv)

    def answer(self, msg: Mapping[str, Any]) -> None:
        """Whoever waits for it gets it; nobody may be waiting any more."""
        with self._lock:
            waiting = self._waiting.get(msg.get("id", 0))
        if waiting is not None:
            waiting.put(dict(msg))

    def _ask(self, incoming: Incoming, tool: str, argv: tuple[str, ...]) -> None:
        place: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        ident = self._admit(place)
        if ident is None:
            self._refuse(incoming, "429 Too Many Requests", _TOO_MANY, tool=tool, argv=argv)
            return
        try:
            self._transcript.write("ask", id=ident, tool=tool, argv=list(argv))
            found = place.get(timeout=self._seconds)
        except queue.Empty:
            self._refuse(incoming, "504 Gateway Timeout", _NO_ANSWER, tool=tool, argv=argv)
            return
        finally:
            with self._lock:
                del self._waiting[ident]
        self._tell(tool, argv, verdict=found.get("verdict"), reason=found.get("reason"))
        fields = {name: found.get(name) for name in ("status", "stdout", "stderr")}
        _say(incoming, "200 OK", json.dumps(fields))

    def _admit(self, place: queue.SimpleQueue[dict[str, Any]]) -> int | None:
        """The question's number; None if there are too many."""
        with self._lock:
            if self._asked >= MOST_QUESTIONS or len(self._waiting) >= _AT_ONCE:
                return None
            self._asked += 1
            self._waiting[self._asked] = place
            return self._asked

    def _turn_away(self, incoming: Incoming, status: str, reason: str, head: Head) -> None:
        """What names no tool is a request like any other that is denied."""
        self._audit.deny(_DIALLED, reason, method=head.method, path=head.path)
        _say(incoming, status, reason)

    def _refuse(
        self, incoming: Incoming, status: str, reason: str, *, tool: str, argv: tuple[str, ...]
    ) -> None:
        self._tell(tool, argv, verdict="deny", reason=reason)
        _say(incoming, status, reason)

    def _tell(self, tool: str, argv: tuple[str, ...], *, verdict: object, reason: object) -> None:
        self._transcript.write(
            "brokered",
            tool=tool,
            argv=list(argv),
            verdict="allow" if verdict == "allow" else "deny",
            reason=str(reason or ""),
        )


def _question(incoming: Incoming, head: Head) -> tuple[str, tuple[str, ...]] | None:
    if head.length is None or head.length > BODY_BYTES:
        return None
    try:
        data = json.loads(b"".join(incoming.body(head.length)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    tool, argv = data.get("tool"), texts(data.get("argv"))
    return (tool, argv) if isinstance(tool, str) and argv is not None else None


def _say(incoming: Incoming, status: str, body: str) -> None:
    farewell(incoming.sock, response(status, body=body))
