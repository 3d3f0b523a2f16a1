"""Upstreams that the gateway adds a credential for, and what may be asked of them. Standard library only: see egress.py.

First form: one kind, `llm`, a server that speaks Anthropic's Messages API.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from policies.egress import canonical_host

DOMAIN = "llm.internal"
DEFAULT_HEADER = "x-api-key"
STRIPPED = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "private-token"}
    | {"x-goog-api-key"}
)
"""Headers that may carry a credential: what a client puts there never reaches an upstream."""
_PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
_URL = re.compile(r"(https?)://([^:/?#@\[\]]+)(?::([1-9][0-9]{0,4}))?(/[A-Za-z0-9._~/-]*)?")
_HEADER = re.compile(r"[a-z][a-z0-9-]{0,63}")
_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
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
class LlmAccess:
    """A connection with its secret, as the gateway holds it."""

    name: str
    upstream: Upstream
    private: bool
    header: str
    models: tuple[str, ...]
    secret: str = field(repr=False)

    @property
    def rule(self) -> str:
        return f"connection:{self.name}"


def parse_upstream(text: str, *, private: bool) -> Upstream | None:
    """None if it is no URL to connect to. Without TLS, or by address, only what is private can be reached."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, host, prefix = match[1], match[2], (match[4] or "").rstrip("/")
    port = int(match[3] or _PORTS[scheme])
    named = canonical_host(host.encode("ascii", "replace")) == host
    plain = ".." not in prefix and "//" not in prefix and "/./" not in f"{prefix}/"
    if port > _HIGHEST_PORT or not plain or not (named or (private and _is_ipv4(host))):
        return None
    if scheme == "http":
        return Upstream(scheme="http", host=host, port=port, prefix=prefix) if private else None
    return Upstream(scheme="https", host=host, port=port, prefix=prefix)


def is_credential_header(name: str) -> bool:
    return _HEADER.fullmatch(name) is not None and name not in _NOT_A_CREDENTIAL


def endpoint(name: str) -> str:
    """The host by which the agent reaches a connection."""
    return f"{name}.{DOMAIN}"


def request_refusal(access: LlmAccess, *, method: str, target: str) -> str | None:
    """Why this request may not be made of the connection, or None if it may; its body is still to be judged."""
    path = target.partition("?")[0]
    if path not in _PATHS:
        return f"the connection {access.name} does not offer {path[:80]}"
    return None if method == "POST" else f"the connection {access.name} takes POST only"


def body_refusal(access: LlmAccess, body: bytes) -> str | None:
    """As `request_refusal`: the body must name one model that the connection allows."""
    model = _model(body)
    if model is None:
        return "the body is not a JSON object that names one model"
    if not any(fnmatchcase(model, pattern) for pattern in access.models):
        return f"the connection {access.name} does not offer the model {model[:80]!a}"
    return None


def connections_from_json(data: object) -> Mapping[str, LlmAccess] | None:
    """Connections by the host that the agent calls; None if anything in them is not right."""
    if not isinstance(data, list):
        return None
    found = [_access(item) for item in data]
    known = {endpoint(access.name): access for access in found if access is not None}
    return known if len(known) == len(data) else None


def _access(data: object) -> LlmAccess | None:
    if not isinstance(data, dict) or data.get("kind") != "llm":
        return None
    private, models = data.get("private", False), data.get("models")
    texts = tuple(data.get(key) for key in ("name", "upstream", "header", "secret"))
    if not isinstance(private, bool) or not isinstance(models, list) or not models:
        return None
    if not all(isinstance(text, str) for text in (*texts, *models)):
        return None
    name, upstream, header, secret = map(str, texts)
    parsed = parse_upstream(upstream, private=private)
    if parsed is None or not is_endpoint_name(name) or not is_credential_header(header):
        return None
    if not is_header_value(secret):
        return None
    return LlmAccess(
        name=name,
        upstream=parsed,
        private=private,
        header=header,
        models=tuple(models),
        secret=secret,
    )


def is_endpoint_name(name: str) -> bool:
    """True if a connection of this name can be called by a host name of its own."""
    host = endpoint(name)
    return "." not in name and canonical_host(host.encode("ascii", "replace")) == host


def is_header_value(secret: str) -> bool:
    """A secret with a line end in it would write headers of its own."""
    return bool(secret) and secret.isascii() and secret.isprintable() and secret.strip() == secret


def _model(body: bytes) -> str | None:
    """The one that any reader of the body finds: a key given twice, in whatever capitals, is none."""
    try:
        pairs = json.loads(body.decode(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, _Pairs):
        return None
    named = [(key, value) for key, value in pairs if key.lower() == "model"]
    if len(named) != 1 or named[0][0] != "model" or not isinstance(named[0][1], str):
        return None
    return named[0][1]


class _Pairs(list[tuple[str, object]]):
    """A JSON object with all its members, not only the last of each name."""


def _is_ipv4(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False
