"""Bytes into a real gateway: one connection, and what must come of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.adversarial.case import Case

ALLOWED: Final = "allowed.example.com"
READING: Final = "registry.example.com"
LIMITED: Final = "limited.example.com"
SPLICED: Final = "spliced.example.com"
OUTSIDE: Final = "outside.example.com"
UPSTREAM: Final = "upstream.example.com"
CANARY: Final = "canary.internal"
MODELS: Final = "anthropic.llm.internal"
ADDRESSES: Final = "addresses.example.com"
NOT_LISTED: Final = "not on the list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    send: bytes
    host: str = ALLOWED
    """What is looked up; empty for an address that nobody looked up."""
    port: int = 80
    tls: bool = False
    status: int = 400
    """Of the answer; 0 for an end without one."""
    arrives: tuple[bytes, ...] = ()
    """Request lines that the canary must get, and no others."""
    record: str | None = None
    """Where it differs from the case's."""
    logged: str = ""
    """The host in the record, where it is not the one that was looked up."""
    verdict: str = "deny"
    lacks: bytes = b""
    """What must not be in the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCase(Case):
    tries: tuple[Try, ...] = field(repr=False)


def ask(
    *headers: str | bytes, line: str | bytes = "GET / HTTP/1.1", host: str | bytes = ALLOWED, body: bytes = b""
) -> bytes:  # fmt: skip
    lines = [line, b"Host: " + _bytes(host), *headers, "Connection: close", "", ""]
    return b"\r\n".join(map(_bytes, lines)) + body


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def tries(sent: Iterable[bytes], **fields: object) -> tuple[Try, ...]:
    return tuple(Try(send=data, **fields) for data in sent)  # type: ignore[arg-type]  # fields by name, checked at run time
