"""Upstreams that a run reaches by a name of Errand's, with a credential that the gateway adds. Standard library only: see egress.py.

Three kinds: a model server (`NAME.llm.internal`), a server that speaks HTTP (`NAME.internal`), and a port that anything
may be said to (`NAME.internal`, no credential).
"""

import base64
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from policies.dialects import Dialect
from policies.egress import canonical_host
from policies.paths import fits, is_plain
from policies.prices import Price

MODEL_DOMAIN: Final = "llm.internal"
DOMAIN: Final = "internal"
RESERVED: Final = frozenset({"broker", "git", "llm"})
"""Names that are endpoints of Errand's own."""
DNS_PORT: Final = 53
"""The acceptor answers there itself."""
STRIPPED: Final = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "private-token"}
    | {"x-goog-api-key", "x-goog-user-project", "x-goog-fieldmask", "openai-organization"}
    | {"openai-project", "x-http-method", "x-http-method-override", "x-method-override", "job-token"}
    | {"x-auth-token", "x-access-token", "x-amz-security-token"}
)  # fmt: skip
"""Headers that may carry a credential, choose whose it is, or say that the method is another one: no client's reach an upstream."""
HEADERS: Final[Mapping[Dialect, tuple[str, str]]] = MappingProxyType(
    {
        "anthropic": ("x-api-key", ""),
        "openai": ("authorization", "Bearer"),
        "google": ("x-goog-api-key", ""),
    }
)
"""The header that a dialect's servers take the credential in, and the word before it."""

_URL = re.compile(r"(https?)://([^:/?#@\[\]]+)(?::([1-9][0-9]{0,4}))?(/[A-Za-z0-9._~/-]*)?")
_HEADER = re.compile(r"[a-z][a-z0-9-]{0,63}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}|")
_USER = re.compile(r"[!-9;-~]{0,200}")
_METHOD = re.compile(r"[A-Z]{1,20}")
# What is shorter stands in many an innocent text.
_SHORTEST = 5
_PORTS = {"http": 80, "https": 443}
HIGHEST_PORT = 65535
# Those that frame a request cannot carry a credential.
_NOT_A_CREDENTIAL = frozenset(
    {"host", "connection", "content-length", "content-type", "content-encoding", "expect", "te"}
    | {"trailer", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    scheme: Literal["http", "https"]
    host: str
    """A name, or an IPv4 address."""
    port: int
    prefix: str
    """Put before every path; empty or `/something`."""

    @property
    def authority(self) -> str:
        """As the Host header says it."""
        default = _PORTS[self.scheme] == self.port
        return self.host if default else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    header: str
    value: str = field(repr=False)
    forms: tuple[str, ...] = field(repr=False)
    """All that must not come back in an answer, the longest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmAccess:
    """A model server with its credential, as the gateway holds it."""

    name: str
    dialect: Dialect
    upstream: Upstream
    private: bool
    credential: Credential
    models: tuple[str, ...]
    allow: tuple[str, ...]
    prices: tuple[Price, ...]

    @property
    def rule(self) -> str:
        return f"connection:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What may be asked of a server: any of these methods with any of these paths."""

    methods: tuple[str, ...]
    paths: tuple[str, ...]
    """`*` stands for one part of a path, `**` at the end for all that follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAccess:
    name: str
    upstream: Upstream
    private: bool
    credential: Credential
    requests: tuple[Requests, ...]

    @property
    def rule(self) -> str:
        return f"connection:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAccess:
    name: str
    host: str
    port: int
    private: bool

    @property
    def rule(self) -> str:
        return f"connection:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """All that a run has. Both are by what the agent dials."""

    calls: Mapping[str, LlmAccess | HttpAccess] = field(default_factory=dict)
    """By host, on port 80."""
    tunnels: Mapping[tuple[str, int], TcpAccess] = field(default_factory=dict)


def parse_upstream(text: str, *, private: bool) -> Upstream | None:
    """None if it is no URL to connect to. Without TLS, or by address, only what is private can be reached."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, host, prefix = match[1], match[2], (match[4] or "").rstrip("/")
    port = int(match[3] or _PORTS[scheme])
    plain = ".." not in prefix and "//" not in prefix and "/./" not in f"{prefix}/"
    if port > HIGHEST_PORT or not plain or not is_upstream_host(host, private=private):
        return None
    if scheme == "http":
        return Upstream(scheme="http", host=host, port=port, prefix=prefix) if private else None
    return Upstream(scheme="https", host=host, port=port, prefix=prefix)


def is_upstream_host(host: str, *, private: bool) -> bool:
    """A name; where private addresses are meant, also an IPv4 address."""
    try:
        address = str(ipaddress.IPv4Address(host))
    except ValueError:
        return canonical_host(host.encode("ascii", "replace")) == host
    return private and address == host


def is_credential_header(name: str) -> bool:
    return _HEADER.fullmatch(name) is not None and name not in _NOT_A_CREDENTIAL


def is_scheme(text: str) -> bool:
    """A word before the secret, like Bearer; empty for none."""
    return _SCHEME.fullmatch(text) is not None


def is_user(text: str) -> bool:
    return _USER.fullmatch(text) is not None


def is_method(text: str) -> bool:
    return _METHOD.fullmatch(text) is not None and text not in {"CONNECT", "TRACE"}


def is_header_value(secret: str) -> bool:
    """A secret with a line end in it would write headers of its own."""
    return bool(secret) and secret.isascii() and secret.isprintable() and secret.strip() == secret


def credential(*, header: str, scheme: str, user: str, secret: str) -> Credential:
    """With a user, as Basic wants it; else the secret, after its scheme if there is one."""
    encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
    value = f"Basic {encoded}" if user else f"{scheme} {secret}".strip()
    words = {value, secret, secret.rpartition(" ")[2], base64.b64encode(secret.encode()).decode()}
    words |= {urllib.parse.quote(secret, safe=""), *([encoded] if user else [])}
    long = {word for word in words if len(word) >= _SHORTEST} | {value}
    forms = tuple(sorted(long, key=lambda word: (-len(word), word)))
    return Credential(header=header, value=value, forms=forms)


def endpoint(kind: str, name: str) -> str:
    """The host by which the agent reaches a connection."""
    return f"{name}.{MODEL_DOMAIN if kind == 'llm' else DOMAIN}"


def is_endpoint_name(kind: str, name: str) -> bool:
    """True if a connection of this name can be called by a host name of its own."""
    host = endpoint(kind, name)
    free = "." not in name and (kind == "llm" or name not in RESERVED)
    return free and canonical_host(host.encode("ascii", "replace")) == host


def http_refusal(access: HttpAccess, *, method: str, target: str) -> str | None:
    """Why this request may not be made of the connection, or None if it may."""
    path = target.partition("?")[0]
    if not is_plain(path):
        return "the path could be read in two ways: no empty part, no . or .., nothing encoded that need not be"
    fitting = [found for found in access.requests if any(fits(path, p) for p in found.paths)]
    if not fitting:
        return f"the connection {access.name} does not offer {path[:80]}"
    if not any(method in found.methods for found in fitting):
        return f"the connection {access.name} does not offer {method} for {path[:80]}"
    return None
