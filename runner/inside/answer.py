"""A server's answer: its head without what a client could log in with, and its body out of whatever framing it came in."""

import re
import socket
from collections.abc import Iterator, Sequence

from runner.inside.errors import UpstreamError

_HEAD_BYTES = 64 * 1024
_LINE_BYTES = 8 * 1024
_READ_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_DROPPED = frozenset(
    {b"set-cookie", b"set-cookie2", b"www-authenticate", b"proxy-authenticate", b"authentication-info"}
    | {b"proxy-authentication-info", b"alt-svc", b"connection", b"keep-alive", b"proxy-connection"}
    | {b"upgrade", b"trailer", b"transfer-encoding"}
)  # fmt: skip
_INTERIM = 2
_BODILESS = frozenset({204, 304})
_REDACTED = b"[redacted]"

Headers = tuple[tuple[bytes, bytes], ...]


class Answer:
    """Read from a server's socket. Reads raise UpstreamError."""

    def __init__(self, server: socket.socket, *, method: str, secrets: Sequence[bytes]) -> None:
        self._server = server
        self._buffer = b""
        head = self._head()
        first, *lines = head.split(b"\r\n")
        self.status = _status(first)
        self._headers = _headers(lines)
        self.type = self.value(b"content-type").partition(b";")[0].strip().lower()
        self._chunked = self._is_chunked()
        self._length = self._content_length()
        if method == "HEAD" or self.status in _BODILESS:
            self._chunked, self._length = False, 0
        if self.value(b"content-encoding") not in {b"", b"identity"}:
            raise UpstreamError("the server compressed its answer, though it was asked not to")
        self._first = first
        self._secrets = secrets

    def value(self, name: bytes) -> bytes:
        return b", ".join(value for key, value in self._headers if key == name)

    def head(self) -> bytes:
        """The head to pass on."""
        kept = [(key, value) for key, value in self._headers if key not in _DROPPED]
        if self._chunked:
            kept.append((b"transfer-encoding", b"chunked"))
        lines = [self._first, *(key + b": " + value for key, value in kept), b"connection: close"]
        text = b"\r\n".join(lines)
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        return text + _END

    def body(self) -> Iterator[bytes]:
        """Its data, as it comes; nothing of its framing."""
        if self._chunked:
            yield from self._chunks()
        elif self._length is not None:
            yield from self._exactly(self._length)
        else:
            while data := self._buffer or self._read(b""):
                self._buffer = b""
                yield data

    def framed(self, data: bytes) -> bytes:
        """Data as the head announces it; nothing for no data."""
        if not self._chunked or not data:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)

    def last(self) -> bytes:
        """What comes after all data."""
        return b"0\r\n\r\n" if self._chunked else b""

    def _head(self) -> bytes:
        """The first that is not interim."""
        while True:
            head, end, rest = self._buffer.partition(_END)
            if len(head) > _HEAD_BYTES:
                raise UpstreamError("the head of the server's answer is too long")
            if not end:
                self._buffer += self._read(b"the server closed without an answer")
                continue
            self._buffer = rest
            if _status(head.partition(b"\r\n")[0]) // 100 >= _INTERIM:
                return head

    def _is_chunked(self) -> bool:
        coding = self.value(b"transfer-encoding").lower()
        if coding not in {b"", b"chunked"}:
            raise UpstreamError("the server's answer has an unknown transfer coding")
        return bool(coding)

    def _content_length(self) -> int | None:
        values = {value for key, value in self._headers if key == b"content-length"}
        if not values:
            return None
        [value, *more] = values
        if more or self._chunked or not _LENGTH.fullmatch(value):
            raise UpstreamError("the length of the server's answer is not clear")
        return int(value)

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            yield from self._exactly(size)
            if self._line():
                raise UpstreamError("a chunk of the server's answer does not end where it should")
        while self._line():
            pass  # trailers go no further

    def _chunk_size(self) -> int:
        match = _SIZE.fullmatch(self._line())
        if match is None:
            raise UpstreamError("a chunk's size in the server's answer is malformed")
        return int(match[1], 16)

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _LINE_BYTES:
                raise UpstreamError("a line in the server's answer is too long")
            self._buffer += self._read(b"the server's answer ended too early")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data = self._buffer or self._read(b"the server's answer ended too early")
            data, self._buffer = data[:count], data[count:]
            count -= len(data)
            yield data

    def _read(self, otherwise: bytes) -> bytes:
        """Some bytes; at the end none, or an error with these words."""
        try:
            data = self._server.recv(_READ_BYTES)
        except OSError as exc:
            raise UpstreamError(f"the server gave no answer: {exc}") from exc
        if not data and otherwise:
            raise UpstreamError(otherwise.decode())
        return data


def _status(first: bytes) -> int:
    match = _STATUS.fullmatch(first)
    if match is None:
        raise UpstreamError("the server does not speak HTTP/1.1")
    return int(match[1])


def _headers(lines: Sequence[bytes]) -> Headers:
    pairs = [line.partition(b":") for line in lines if line[:1] not in {b" ", b"\t"}]
    return tuple((key.strip().lower(), value.strip()) for key, _, value in pairs)
