"""Reads the name out of a TLS ClientHello, strictly: what is odd is refused, not guessed."""

from dataclasses import dataclass
from typing import Literal

from policies.egress import canonical_host
from runner.inside.errors import HelloError

HELLO_BYTES = 16 * 1024
ACCESS_DENIED = bytes.fromhex("15030300020231")
"""A fatal TLS alert: access_denied."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
_RECORD_BYTES = 1 << 14
_MAJOR = 3
_RANDOM_BYTES = 32
_SERVER_NAME, _ENCRYPTED_HELLO = 0, 0xFE0D
_HOST_NAME = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    host: str
    """Server name in the spelling of `canonical_host`."""
    encrypted: bool
    """There is a second hello in it, for eyes that are not ours; browsers send noise in its place."""


def read_hello(data: bytes) -> Hello | None:
    """The hello in the first bytes of a connection; None while more is needed. Raises HelloError only."""
    message = _message(data)
    if message is None:
        if len(data) >= HELLO_BYTES:
            raise HelloError("the ClientHello is too long")
        return None
    extensions = _extensions(_Cursor(message))
    if _SERVER_NAME not in extensions:
        raise HelloError("the ClientHello names no server")
    return Hello(
        host=_host(_Cursor(extensions[_SERVER_NAME])), encrypted=_ENCRYPTED_HELLO in extensions
    )


def _message(data: bytes) -> bytes | None:
    """The ClientHello's body, put together from its records; None while they are incomplete."""
    body = bytearray()
    at = 0
    while at < len(data):
        head = data[at : at + _RECORD_HEAD]
        if head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != _MAJOR):
            raise HelloError("this is not TLS")
        if len(head) < _RECORD_HEAD:
            return None
        size = int.from_bytes(head[3:], "big")
        if not 0 < size <= _RECORD_BYTES:
            raise HelloError("a TLS record has an impossible length")
        start = at + _RECORD_HEAD
        body += data[start : start + size]
        if _complete(body):
            return bytes(body[_MESSAGE_HEAD:])
        at = start + size
    return None


def _complete(body: bytearray) -> bool:
    if body and body[0] != _CLIENT_HELLO:
        raise HelloError("the first TLS message is no ClientHello")
    if len(body) < _MESSAGE_HEAD:
        return False
    size = _MESSAGE_HEAD + int.from_bytes(body[1:_MESSAGE_HEAD], "big")
    if size > HELLO_BYTES:
        raise HelloError("the ClientHello is too long")
    if len(body) > size:
        raise HelloError("something follows the ClientHello in its record")
    return len(body) == size


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def done(self) -> bool:
        return not self._data

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise HelloError("the ClientHello is malformed")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def vector(self, length_bytes: Literal[1, 2]) -> bytes:
        return self.take(self.number(length_bytes))

    def finish(self) -> None:
        if not self.done:
            raise HelloError("the ClientHello is malformed")


def _extensions(cursor: _Cursor) -> dict[int, bytes]:
    cursor.take(2 + _RANDOM_BYTES)
    cursor.vector(1)  # session id
    cursor.vector(2)  # cipher suites
    cursor.vector(1)  # compression methods
    if cursor.done:
        return {}
    inner = _Cursor(cursor.vector(2))
    cursor.finish()
    found: dict[int, bytes] = {}
    while not inner.done:
        kind = inner.number(2)
        if kind in found:
            raise HelloError("the ClientHello has an extension twice")
        found[kind] = inner.vector(2)
    return found


def _host(cursor: _Cursor) -> str:
    names = _Cursor(cursor.vector(2))
    cursor.finish()
    if names.number(1) != _HOST_NAME:
        raise HelloError("the ClientHello names no host")
    raw = names.vector(2)
    names.finish()
    host = canonical_host(raw)
    if host is None or host.encode("ascii") != raw.lower():
        raise HelloError("the ClientHello's server name is no host name")
    return host
