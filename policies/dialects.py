"""What may be asked of a model server, by method and address. Standard library only: see egress.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Dialect = Literal["anthropic", "openai", "google"]
Form = Literal["messages", "responses", "chat", "gemini"]
"""What a body and its answer look like."""
Kind = Literal["generate", "count", "list"]

DIALECTS: Final[tuple[Dialect, ...]] = ("anthropic", "openai", "google")
_ID: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,100}"
_STREAMED: Final = "streamGenerateContent"
_CALLS: Final = f"generateContent|{_STREAMED}"
_GOOGLE: Final = rf"/v1(?:beta)?/models/(?P<model>{_ID})"
_VALUE: Final = re.compile(r"[A-Za-z0-9._~-]{0,200}")
_SECRET_QUERY: Final = frozenset({"key", "api_key", "access_token"})
"""Queries that may carry a client's credential: they are left out."""
_PAGES: Final = frozenset({"limit", "after_id", "before_id", "pageSize", "pageToken"})
_BETA: Final = frozenset({"beta"})
_ALT: Final = frozenset({"alt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    form: Form
    kind: Kind
    model: str | None
    """If the address names it; else the body does."""
    target: str
    """What to ask of the upstream; without a client's credential."""


class _Offer(NamedTuple):
    method: str
    path: str
    """A pattern for the whole path; `model` and `call` are what it may name."""
    form: Form
    kind: Kind
    query: frozenset[str] = frozenset()


_OFFERS: Final[Mapping[Dialect, tuple[_Offer, ...]]] = MappingProxyType(
    {
        "anthropic": (
            _Offer("POST", "/v1/messages", "messages", "generate", _BETA),
            _Offer("POST", "/v1/messages/count_tokens", "messages", "count", _BETA),
            _Offer("GET", rf"/v1/models(?:/{_ID})?", "messages", "list", _PAGES | _BETA),
        ),
        "openai": (
            _Offer("POST", "/v1/responses", "responses", "generate"),
            _Offer("POST", "/v1/chat/completions", "chat", "generate"),
            _Offer("GET", rf"/v1/models(?:/{_ID})?", "chat", "list"),
        ),
        "google": (
            _Offer("POST", rf"{_GOOGLE}:(?P<call>{_CALLS})", "gemini", "generate", _ALT),
            _Offer("POST", rf"{_GOOGLE}:countTokens", "gemini", "count"),
            _Offer("GET", rf"/v1(?:beta)?/models(?:/{_ID})?", "gemini", "list", _PAGES),
        ),
    }
)


def asked_for(dialect: Dialect, *, method: str, target: str) -> Asked | str:
    """What a request asks for; the reason, where that is nothing which is offered."""
    path, _, query = target.partition("?")
    matches = [(offer, re.fullmatch(offer.path, path)) for offer in _OFFERS[dialect]]
    found = [(offer, match) for offer, match in matches if match is not None]
    if not found:
        return f"it does not offer {path[:80]}"
    [(offer, match)] = found
    if method != offer.method:
        return f"{path[:80]} takes {offer.method} only"
    kept = _kept(query, offer.query)
    if kept is None:
        return f"it does not offer this query for {path[:80]}"
    named = match.groupdict()
    if named.get("call") == _STREAMED and "alt=sse" not in kept:
        return f"{_STREAMED} is passed on as a stream of events only: add `?alt=sse`"
    model = named.get("model")
    target = f"{path}?{'&'.join(kept)}" if kept else path
    return Asked(form=offer.form, kind=offer.kind, model=model, target=target)


def _kept(query: str, offered: frozenset[str]) -> list[str] | None:
    """What remains of a query; None if there is something in it that is not offered, or something twice."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    pairs = [pair for pair in pairs if pair[0] not in _SECRET_QUERY]
    names = [name for name, _, _ in pairs]
    if len(set(names)) != len(names) or not set(names) <= offered:
        return None
    if not all(_VALUE.fullmatch(value) for _, _, value in pairs):
        return None
    return ["".join(pair) for pair in pairs]


def refusal_body(dialect: Dialect, *, status: int, message: str) -> Mapping[str, object]:
    """An error as the provider itself would tell it, so that a client shows it."""
    busy = status == 429  # noqa: PLR2004 - the only other one is 403
    match dialect:
        case "anthropic":
            kind = "rate_limit_error" if busy else "permission_error"
            return {"type": "error", "error": {"type": kind, "message": message}}
        case "openai":
            kind = "rate_limit_exceeded" if busy else "permission_denied"
            error = {"message": message, "type": kind, "param": None, "code": kind}
            return {"error": error}
        case "google":
            name = "RESOURCE_EXHAUSTED" if busy else "PERMISSION_DENIED"
            return {"error": {"code": status, "message": message, "status": name}}
