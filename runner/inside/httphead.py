"""One HTTP/1.1 request head by a tiny grammar. What proxies and servers read in two ways is refused."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policies.egress import canonical_host, is_canonical_path
from runner.inside.errors import HeadError

HEAD_BYTES = 16 * 1024
_HEADERS_LIMIT = 100
_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!-\"$-~]{0,8191}) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_AUTHORITY = re.compile(rb"([^:]*)(?::([1-9][0-9]{0,4}))?")
_WEBSOCKET = b"websocket"
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})
HOP_BY_HOP = frozenset(
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
    port: int | None
    """As the Host header says it; None if it leaves it out."""
    headers: Headers
    """Names in lower case."""
    length: int | None
    """Bytes of the body; None if it comes in chunks."""
    expects_continue: bool
    stays: bool
    """The client may send another request on this connection."""

    @property
    def path(self) -> str:
        """Without the query."""
        return self.target.partition("?")[0]

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
    target = request[2].decode("ascii")
    if not is_canonical_path(target.partition("?")[0]):
        raise HeadError(400, "the path could be read in two ways")
    host, port = _host(headers)
    return Head(
        method=request[1].decode("ascii"),
        target=target,
        host=host,
        port=port,
        headers=headers,
        length=_length(headers),
        expects_continue=expects is not None,
        stays=b"close" not in listed(headers),
    )


def _headers(lines: list[bytes]) -> Headers:
    if len(lines) > _HEADERS_LIMIT:
        raise HeadError(431, "there are too many headers")
    found = read_headers(lines)
    if found is None:
        raise HeadError(400, "a header line is malformed")
    return found


def read_headers(lines: list[bytes]) -> Headers | None:
    """None if one of them is malformed."""
    found = [_HEADER.fullmatch(line) for line in lines]
    good = tuple((m[1].lower(), m[2].rstrip(b" \t")) for m in found if m)
    return good if len(good) == len(found) else None


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _one(headers: Headers, name: bytes) -> bytes | None:
    values = _values(headers, name)
    if len(values) > 1:
        raise HeadError(400, f"{name.decode()} must be given once")
    return values[0] if values else None


def _host(headers: Headers) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(_one(headers, b"host") or b"")
    host = canonical_host(match[1]) if match else None
    if match is None or host is None:
        raise HeadError(400, "the Host header is missing or no host name")
    return host, int(match[2]) if match[2] else None


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


def listed(headers: Headers) -> set[bytes]:
    """What the Connection header says: `close`, and names of headers that are for this hop only."""
    values = b",".join(_values(headers, b"connection")).lower()
    return {token.strip() for token in values.split(b",") if token.strip()}


def _check_connection(headers: Headers) -> None:
    if listed(headers) & _FRAMING:
        raise HeadError(400, "Connection lists a header that the request needs")
    if any(_WEBSOCKET in value.lower() for value in _values(headers, b"upgrade")):
        raise HeadError(403, "a WebSocket is not let through: nothing in it could be judged")


def forwarded(head: Head, *, authority: str) -> bytes:
    """The head as it goes on: our Host, and nothing of the hop before."""
    added = [(b"host", authority.encode()), *kept(head)]
    return block(f"{head.method} {head.target} HTTP/1.1".encode(), added)


def rewritten(
    head: Head, *, target: str, dropped: Iterable[str], added: Mapping[str, str]
) -> bytes:
    """The head with another target and other headers; `added` holds the Host."""
    gone = {name.encode() for name in (*dropped, *added)}
    ours = [(name.encode(), value.encode()) for name, value in added.items()]
    theirs = [(name, value) for name, value in kept(head) if name not in gone]
    headers = [*ours, *theirs, (b"connection", b"close")]
    return block(f"{head.method} {target} HTTP/1.1".encode(), headers)


def kept(head: Head) -> list[tuple[bytes, bytes]]:
    """The headers that are not for the hop before only."""
    dropped = HOP_BY_HOP | listed(head.headers)
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
    return block(f"HTTP/1.1 {status}".encode("ascii"), encoded) + data


def block(first: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [first, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + _END
