"""The gateway's side of a connection to a model server: TLS, and the head of its response."""

import functools
import re
import socket
import ssl

from policies.connections import Upstream
from runner.inside.errors import UpstreamError

_HEAD_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_DROPPED = frozenset(
    {b"set-cookie", b"www-authenticate", b"proxy-authenticate", b"alt-svc", b"connection"}
    | {b"keep-alive", b"proxy-connection", b"upgrade"}
)
_INTERIM = b"1"
_REDACTED = b"[redacted]"


def secured(sock: socket.socket, upstream: Upstream) -> socket.socket:
    """TLS with the server that has this name, where the upstream speaks it. Raises OSError, and closes the socket."""
    if upstream.scheme == "http":
        return sock
    try:
        return _context().wrap_socket(sock, server_hostname=upstream.host)
    except OSError:
        sock.close()
        raise


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def response_head(server: socket.socket, *, secret: str) -> bytes:
    """The head to pass on, and what was read after it. Raises UpstreamError."""
    data = b""
    while True:
        head, end, rest = data.partition(_END)
        if len(head) > _HEAD_BYTES:
            raise UpstreamError("the model server's response head is too long")
        if not end:
            data += _more(server)
        elif _status(head).startswith(_INTERIM):
            data = rest
        else:
            return _cleaned(head, secret.encode()) + rest


def _more(server: socket.socket) -> bytes:
    try:
        data = server.recv(_HEAD_BYTES)
    except OSError as exc:
        raise UpstreamError(f"the model server gave no answer: {exc}") from exc
    if not data:
        raise UpstreamError("the model server closed without an answer")
    return data


def _status(head: bytes) -> bytes:
    match = _STATUS.fullmatch(head.partition(b"\r\n")[0])
    if match is None:
        raise UpstreamError("the model server does not speak HTTP/1.1")
    return match[1]


def _cleaned(head: bytes, secret: bytes) -> bytes:
    """Nothing that would let the client log in, nothing of the hop behind, and not our credential."""
    first, *lines = head.replace(secret, _REDACTED).split(b"\r\n")
    headers = [
        line
        for line in lines
        if line[:1] not in {b" ", b"\t"} and line.partition(b":")[0].strip().lower() not in _DROPPED
    ]
    return b"\r\n".join([first, *headers, b"connection: close"]) + _END
