"""One HTTP/1.1 request head by a tiny grammar. What proxies and servers read in two ways is refused."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policies.egress import canonical_host
from runner.inside.errors import HeadError

HEAD_BYTES = 16 * 1024
_HEADERS_LIMIT = 100
_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!-\"$-~]{0,8191}) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te", b"trailer"}
    | {b"proxy-authorization", b"proxy-authenticate", b"http2-settings", b"host"}
)

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    method: str
    target: str
    """Origin form: begins with a slash."""
    host: str
    """In the spelling of `canonical_host`."""
    headers: Headers
    """Names in lower case."""
    length: int | None
    """Bytes of the body; None if it comes in chunks."""
    expects_continue: bool

    def value(self, name: bytes) -> str:
        """All values of a header, joined; empty if it is not there."""
        return b", ".join(_values(self.headers, name)).decode("latin-1")


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """The head without its empty line, and what follows; None while it is incomplete. Raises HeadError."""
    end = data.find(_END)
    head = data if end < 0 else data[:end]
    if _BARE_LF.search(head) or data[:1] in {b"\r", b"\n"}:
        raise HeadError(400, "lines must end in CRLF")
    if len(head) > HEAD_BYTES:
        raise HeadError(431, "the request head is too long")
    return None if end < 0 else (head, data[end + len(_END) :])


def parse_head(raw: bytes) -> Head:
    """Raises HeadError only."""
    first, *lines = raw.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    if request is None:
        raise HeadError(400, "the request line is not `METHOD /path HTTP/1.1`")
    if request[1] == b"CONNECT":
        raise HeadError(405, "this is no proxy")
    headers = _headers(lines)
    expects = _one(headers, b"expect")
    if expects is not None and expects.lower() != b"100-continue":
        raise HeadError(417, "only 100-continue can be expected")
    _check_connection(headers)
    return Head(
        method=request[1].decode("ascii"),
        target=request[2].decode("ascii"),
        host=_host(headers),
        headers=headers,
        length=_length(headers),
        expects_continue=expects is not None,
    )


def _headers(lines: list[bytes]) -> Headers:
    if len(lines) > _HEADERS_LIMIT:
        raise HeadError(431, "there are too many headers")
    found = [_HEADER.fullmatch(line) for line in lines]
    if None in found:
        raise HeadError(400, "a header line is malformed")
    return tuple((m[1].lower(), m[2].rstrip(b" \t")) for m in found if m)


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _one(headers: Headers, name: bytes) -> bytes | None:
    values = _values(headers, name)
    if len(values) > 1:
        raise HeadError(400, f"{name.decode()} must be given once")
    return values[0] if values else None


def _host(headers: Headers) -> str:
    value = _one(headers, b"host")
    host = canonical_host((value or b"").removesuffix(b":80"))
    if host is None:
        raise HeadError(400, "the Host header is missing or no host name")
    return host


def _length(headers: Headers) -> int | None:
    coding, length = _one(headers, b"transfer-encoding"), _one(headers, b"content-length")
    if coding is not None and length is not None:
        raise HeadError(400, "Content-Length and Transfer-Encoding exclude each other")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise HeadError(501, "the only transfer coding is chunked")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise HeadError(400, "Content-Length is no number")
    return int(length)


def _listed(headers: Headers) -> set[bytes]:
    """Names that the Connection header declares to be for this hop only."""
    values = b",".join(_values(headers, b"connection")).lower()
    return {token.strip() for token in values.split(b",") if token.strip()}


def _check_connection(headers: Headers) -> None:
    if _listed(headers) & _FRAMING:
        raise HeadError(400, "Connection lists a header that the request needs")


def forwarded(head: Head) -> bytes:
    """The head as it goes on: our Host, nothing of the hop before, and no second request after this one."""
    added = [(b"host", head.host.encode()), *kept(head), (b"connection", b"close")]
    return _block(f"{head.method} {head.target} HTTP/1.1".encode(), added)


def rewritten(
    head: Head, *, target: str, dropped: Iterable[str], added: Mapping[str, str]
) -> bytes:
    """The head with another target and other headers; `added` holds the Host."""
    gone = {name.encode() for name in (*dropped, *added)}
    ours = [(name.encode(), value.encode()) for name, value in added.items()]
    theirs = [(name, value) for name, value in kept(head) if name not in gone]
    headers = [*ours, *theirs, (b"connection", b"close")]
    return _block(f"{head.method} {target} HTTP/1.1".encode(), headers)


def kept(head: Head) -> list[tuple[bytes, bytes]]:
    """The headers that are not for the hop before only."""
    dropped = _HOP_BY_HOP | _listed(head.headers)
    return [(name, value) for name, value in head.headers if name not in dropped]


def response(
    status: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: str = "",
    content_type: str = "text/plain; charset=utf-8",
) -> bytes:
    """A whole answer of ours, in plain text unless said otherwise."""
    data = body.encode()
    ours = [
        ("content-type", content_type),
        ("content-length", str(len(data))),
        ("connection", "close"),
        *headers,
    ]
    encoded = [(name.encode("ascii"), value.encode("ascii", "replace")) for name, value in ours]
    return _block(f"HTTP/1.1 {status}".encode("ascii"), encoded) + data


def _block(first: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [first, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + _END
