"""Output of a process as few, bounded pieces of text instead of many small reads."""

import codecs
import os
import select
import time
from collections.abc import Callable

PIECE_BYTES = 16 * 1024
PIECE_SECONDS = 0.1


class Pieces:
    """Collects bytes until a piece is due: when it is full, or its first byte is old enough."""

    def __init__(self, *, cap_bytes: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._left = cap_bytes

    def feed(self, data: bytes, now: float) -> None:
        if not self._parts:
            self._since = now
        self._parts.append(data)
        self._size += len(data)

    def wait_seconds(self, now: float) -> float | None:
        """How long until a piece is due; None if there is nothing."""
        if not self._parts:
            return None
        if self._size >= PIECE_BYTES:
            return 0.0
        return max(0.0, self._since + PIECE_SECONDS - now)

    def take(self, *, final: bool = False) -> str:
        """The piece; empty when nothing is to be said. What exceeds the cap is dropped, with one note."""
        data, self._parts, self._size = b"".join(self._parts), [], 0
        if self._left <= 0:
            return ""
        kept = data[: self._left]
        self._left -= len(data)
        text = self._decoder.decode(kept, final)
        if self._left <= 0:
            text += "\n[… the rest of this output is not recorded]\n"
        return text


def pump(
    fd: int,
    *,
    emit: Callable[[str], None],
    cap_bytes: int,
    watch: Callable[[], bool],
    keep: Callable[[bytes], None] = lambda _: None,
) -> None:
    """Read `fd` until it ends or `watch` says to stop, giving pieces to `emit` and all bytes to `keep`.

    `watch` is asked at least every 100 ms while nothing comes, and between reads.
    """
    pieces = Pieces(cap_bytes=cap_bytes)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    going = True
    while going and watch():
        wait = pieces.wait_seconds(time.monotonic())
        if wait != 0.0 and poller.poll(1000 * min(PIECE_SECONDS, wait or PIECE_SECONDS)):
            data = os.read(fd, PIECE_BYTES)
            going = bool(data)
            keep(data)
            if data:
                pieces.feed(data, time.monotonic())
        if pieces.wait_seconds(time.monotonic()) == 0.0:
            _say(emit, pieces.take())
    _say(emit, pieces.take(final=True))


def _say(emit: Callable[[str], None], text: str) -> None:
    if text:
        emit(text)
