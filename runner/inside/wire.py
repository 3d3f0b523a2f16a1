"""The lines that every container speaks: a numbered transcript out, keyed lines in, each acted on once."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

LINE_BYTES = 256 * 1024
TOTAL_BYTES = 40 * 1024 * 1024
INPUT_LINE_BYTES = 4 * 1024 * 1024
FATAL_STATUS = 70
FULL = "transcript limit"
"""What a container says at its end that wrote more than `TOTAL_BYTES`."""
_RESERVE_BYTES = 1024
_KEY_CHARACTERS = 200
_TEXT_LIMITS = (64_000, 16_000, 4_000, 1_000, 200)


def leave() -> None:
    """End the process now, from whichever thread."""
    os._exit(FATAL_STATUS)


class Transcript:
    """Writes numbered JSON lines from many threads. A program that cannot write its transcript ends."""

    def __init__(
        self,
        out: IO[bytes],
        *,
        total_bytes: int = TOTAL_BYTES,
        now: Callable[[], float] = time.time,
        end: Callable[[], None] = leave,
    ) -> None:
        self._out = out
        self._left = total_bytes
        self._now = now
        self._end = end
        self._lock = threading.Lock()
        self._count = 0
        self._closed = False

    def write(self, kind: str, **fields: Any) -> None:
        with self._lock:
            if self._closed:
                return
            line = self._line(kind, fields)
            if len(line) + _RESERVE_BYTES > self._left:
                self._finish(FULL)
            else:
                self._put(line)

    def fatal(self, reason: str) -> None:
        """Write the last line and end the program."""
        with self._lock:
            if not self._closed:
                self._finish(reason)

    def _finish(self, reason: str) -> None:
        self._closed = True
        self._put(self._line("fatal", {"reason": reason}))
        self._end()

    def _line(self, kind: str, fields: dict[str, Any]) -> bytes:
        head = {"n": self._count + 1, "at": round(self._now(), 3), "kind": kind}
        return encode({**head, **fields})

    def _put(self, line: bytes) -> None:
        self._count += 1
        self._left -= len(line)
        try:
            self._out.write(line)
            self._out.flush()
        except (OSError, ValueError):
            self._closed = True
            self._end()


def encode(record: dict[str, Any], *, limit: int = LINE_BYTES) -> bytes:
    """One line of ASCII JSON within `limit`; texts that are too long for it are cut with a note."""
    line = _dump(record)
    for keep in _TEXT_LIMITS:
        if len(line) <= limit:
            return line
        line = _dump(_shortened(record, keep))
    if len(line) <= limit:
        return line
    return _dump(_skeleton(record))


def _dump(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def cut(text: str, keep: int) -> str:
    """The text's beginning, with a note of how much is missing."""
    if len(text) <= keep:
        return text
    return f"{text[:keep]} [… {len(text) - keep} characters cut]"


def _shortened(value: Any, keep: int) -> Any:
    if isinstance(value, str):
        return cut(value, keep)
    if isinstance(value, list):
        return [_shortened(item, keep) for item in value]
    if isinstance(value, dict):
        return {key: _shortened(item, keep) for key, item in value.items()}
    return value


def _skeleton(record: dict[str, Any]) -> dict[str, Any]:
    """What is left of a record with too many members: scalars, and for a JSON-RPC message its identity."""
    kept = {key: item for key, item in record.items() if not isinstance(item, list | dict)}
    msg = record.get("msg")
    if isinstance(msg, dict):
        identity = ("jsonrpc", "id", "method", "do")
        kept["msg"] = {k: msg[k] for k in identity if isinstance(msg.get(k), str | int)}
    return {**_shortened(kept, _TEXT_LIMITS[-1]), "note": "cut: the line was too long"}


def bounded_lines(stream: IO[bytes], limit: int) -> Iterator[tuple[bytes, bool]]:
    """Lines without their ends; of an overlong line its beginning, marked True. Ends with the stream."""
    while line := stream.readline(limit + 1):
        if line.endswith(b"\n"):
            yield line[:-1], False
        elif len(line) <= limit:
            yield line, False
        else:
            yield line[:limit], True
            _skip_line(stream, limit)


def _skip_line(stream: IO[bytes], limit: int) -> None:
    while rest := stream.readline(limit):
        if rest.endswith(b"\n"):
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One line of the worker, seen for the first time."""

    key: str
    to: str
    msg: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Junk:
    """A line that is no letter, such as the half of one whose writer died."""

    text: str


def letters(stream: IO[bytes], *, limit: int = INPUT_LINE_BYTES) -> Iterator[Letter | Junk]:
    """What the worker sends, each key once. Empty lines mean nothing."""
    seen: set[str] = set()
    for line, too_long in bounded_lines(stream, limit):
        if not line.strip():
            continue
        found = Junk(text="a line is too long") if too_long else _letter(line)
        if isinstance(found, Letter):
            if found.key in seen:
                continue
            seen.add(found.key)
        yield found


def _letter(line: bytes) -> Letter | Junk:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return Junk(text="a line is no JSON")
    if not isinstance(record, dict):
        return Junk(text="a line is no object")
    key, to, msg = record.get("key"), record.get("to"), record.get("msg")
    if not isinstance(key, str) or not 0 < len(key) <= _KEY_CHARACTERS:
        return Junk(text="a line has no usable key")
    if to not in {"init", "agent"} or not isinstance(msg, dict):
        return Junk(text="a line has no usable `to` or `msg`")
    return Letter(key=key, to=to, msg=msg)
