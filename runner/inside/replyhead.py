"""The head of a server's answer: read strictly, and written anew for the client."""

import re
import time
from dataclasses import dataclass
from typing import Literal

from runner.inside.errors import UpstreamError
from runner.inside.httphead import HOP_BY_HOP, Headers, block, listed, read_headers
from runner.inside.reader import Body, Reader

_HEAD_BYTES = 64 * 1024
_HEADERS_LIMIT = 200
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# A server's word on other ways to reach it would lead around this gateway.
_DROPPED = HOP_BY_HOP | {b"alt-svc", b"content-length", b"transfer-encoding"}
_NO_CONTENT, _NOT_MODIFIED, _FINAL = 204, 304, 200
_NOTHING_FOLLOWS = frozenset({_NO_CONTENT, _NOT_MODIFIED})

Framing = Literal["none", "length", "chunks", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    phrase: bytes
    headers: Headers
    framing: Framing
    length: int
    """Bytes of the body, with framing `length`; with `none`, what is declared and does not come."""
    stays: bool
    """The server will take another request on this connection."""

    @property
    def interim(self) -> bool:
        return self.status < _FINAL

    def head(self, *, stays: bool) -> bytes:
        """For the client. Without a length of the server's, chunks tell it where the body ends."""
        dropped = _DROPPED | listed(self.headers)
        kept = [(name, value) for name, value in self.headers if name not in dropped]
        if self.framing in {"chunks", "end"}:
            kept.append((b"transfer-encoding", b"chunked"))
        elif self.framing == "length" or self.length:
            kept.append((b"content-length", b"%d" % self.length))
        if not stays:
            kept.append((b"connection", b"close"))
        return block(b"HTTP/1.1 %d %b" % (self.status, self.phrase), kept)


class Answers(Reader):
    """A server's side of a connection."""

    def reply(self, method: str) -> Reply:
        """The next head. Raises UpstreamError."""
        deadline = time.monotonic() + self.idle_seconds
        while (end := self.buffer.find(_END)) < 0:
            if len(self.buffer) > _HEAD_BYTES:
                raise UpstreamError("its response head is too long")
            self._read(deadline)
        raw, self.buffer = self.buffer[:end], self.buffer[end + len(_END) :]
        self.sock.settimeout(self.idle_seconds)
        return parse_reply(raw, method=method)

    def _read(self, deadline: float) -> None:
        try:
            ended = not self.more(deadline)
        except TimeoutError:
            raise UpstreamError("it did not answer in time") from None
        except OSError as exc:
            raise UpstreamError(f"it gave no answer: {exc}", silent=not self.buffer) from exc
        if ended:
            raise UpstreamError("it closed without an answer", silent=not self.buffer)

    def content(self, reply: Reply) -> Body:
        """The body, but for one that goes on until the end."""
        length = None if reply.framing == "chunks" else reply.length
        return Body(self, 0 if reply.framing == "none" else length, lenient=True)


def parse_reply(raw: bytes, *, method: str) -> Reply:
    """Raises UpstreamError only."""
    first, *lines = raw.split(b"\r\n")
    status_line = _STATUS.fullmatch(first)
    if status_line is None:
        raise UpstreamError("it does not speak HTTP/1.1")
    headers = read_headers(lines) if len(lines) <= _HEADERS_LIMIT else None
    if headers is None:
        raise UpstreamError("its response head is malformed")
    status, modern = int(status_line[2]), status_line[1] == b"1"
    framing, length = _framing(headers, status=status, method=method)
    hop = listed(headers)
    return Reply(
        status=status,
        phrase=status_line[3] or b"",
        headers=headers,
        framing=framing,
        length=length,
        stays=modern and b"close" not in hop and framing != "end",
    )


def _framing(headers: Headers, *, status: int, method: str) -> tuple[Framing, int]:
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(codings) + len(lengths) > 1:
        raise UpstreamError("its response says in two ways how long it is")
    if codings and codings[0].lower() != b"chunked":
        raise UpstreamError("its response has another transfer coding than chunked")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise UpstreamError("its response has a length that is no number")
    length = int(lengths[0]) if lengths else 0
    if status < _FINAL or status in _NOTHING_FOLLOWS or method == "HEAD":
        return "none", length
    if codings:
        return "chunks", 0
    return ("length", length) if lengths else ("end", 0)
