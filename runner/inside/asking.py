"""Questions of a recipe: the shell's `ask` writes them into a pipe, the client of the agent answers."""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

MAX_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_KEY, _OTHER = "answer", "answer_other"
# Records are words that end with NUL: their number, then the words.
FUNCTION = """\
ask() {{
  if [ $# -eq 0 ]; then echo 'usage: ask QUESTION [ANSWER…]' >&2; return 2; fi
  local ERRAND_ANSWER
  printf '%s\\0' "$#" "$@" >&{questions} || return 1
  if ! IFS= read -r -d '' -u {answers} ERRAND_ANSWER || [ "${{ERRAND_ANSWER:0:1}}" != + ]; then
    echo 'Nobody answered.' >&2
    return 1
  fi
  printf '%s\\n' "${{ERRAND_ANSWER:1}}"
}}
"""
"""`ask "Which one?" a b` prints the answer, which may be none of those; status 1 without one."""

Ask = Callable[[str, list[str]], str | None]


class Questions:
    """Feed it what the pipe gives; it gives whole questions."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[list[str]]:
        self._data += data
        found = []
        while (record := self._take()) is not None:
            found.append(record)
        if len(self._data) > MAX_BYTES:
            self._data = b""
        return found

    def _take(self) -> list[str] | None:
        head, nul, rest = self._data.partition(b"\0")
        if not nul:
            return None
        count = int(head) if head.isdigit() and len(head) < len("1000") else 0
        words = rest.split(b"\0", count)
        if len(words) <= count:
            return None
        self._data = words[count]
        return [word.decode("utf-8", "replace") for word in words[:count]]


def read(fd: int) -> bytes:
    return os.read(fd, _READ_BYTES)


def reply(fd: int, answer: str | None) -> None:
    """A `+` before an answer, so that an empty one differs from none."""
    text = "" if answer is None else f"+{answer}".replace("\0", "")
    left = memoryview(text.encode("utf-8", "replace") + b"\0")
    while left:
        left = left[os.write(fd, left) :]


def form(session: str, question: str, options: list[str]) -> dict[str, Any]:
    """The parameters of `elicitation/create`."""
    choice: dict[str, Any] = {"type": "string"}
    fields = {_KEY: choice}
    if options:
        choice["enum"] = options
        fields[_OTHER] = {"type": "string"}
    return {
        "mode": "form",
        "sessionId": session,
        "message": question,
        "requestedSchema": {"type": "object", "properties": fields, "required": [_KEY]},
    }


def answer_of(message: dict[str, Any]) -> str | None:
    """What the client's response says; None where nobody answered."""
    result = message.get("result")
    if not isinstance(result, dict) or result.get("action") != "accept":
        return None
    content = result.get("content")
    fields = content if isinstance(content, dict) else {}
    said = fields.get(_KEY, fields.get(_OTHER))
    return said if isinstance(said, str) else None


class Waiting:
    """Requests of ours whose responses somebody waits for. Safe from many threads."""

    def __init__(self) -> None:
        self._boxes: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def begin(self) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        with self._lock:
            self._count += 1
            box = self._boxes[self._count] = queue.SimpleQueue()
            return self._count, box

    def settle(self, message: dict[str, Any]) -> None:
        """What comes too late, or was not asked for, is left alone."""
        ident = message.get("id")
        with self._lock:
            box = self._boxes.pop(ident, None) if isinstance(ident, int) else None
        if box is not None:
            box.put(message)

    def give_up(self) -> None:
        """Nobody will answer what is open."""
        with self._lock:
            boxes, self._boxes = self._boxes, {}
        for box in boxes.values():
            box.put({})
