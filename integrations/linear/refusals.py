"""What an answer that is none means, in our errors: pure."""

import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from gql.transport.exceptions import (
    TransportError,
    TransportQueryError,
    TransportServerError,
)

from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.wording import one_line

SERVICE: Final = "linear"
DEFAULT_WAIT_SECONDS: Final = 60.0
LONGEST_WAIT_SECONDS: Final = 3600.0

_AUTH: Final = frozenset({"authentication error"})
_RATE: Final = frozenset({"ratelimited"})
_PASSING: Final = frozenset({"internal error", "network error", "lock timeout", "bootstrap error"})
_DUPLICATE: Final = re.compile(
    r"conflict on insert|already exists|duplicate|must be unique", re.IGNORECASE
)
MAX_SAID: Final = 300


def mapped(error: TransportError, headers: Mapping[str, str]) -> IntegrationError:
    """`headers`: of the answer, with names in small letters, as far as there was one."""
    match error:
        case TransportQueryError(errors=[{} as first, *_]):
            return _refused(first, headers)
        case TransportServerError(code=int(status)):
            return by_status(status, headers)
        case _:
            return UnavailableError(SERVICE, type(error).__name__)


def by_status(status: int, headers: Mapping[str, str], said: str = "") -> IntegrationError:
    """What a status means where the body says nothing better."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(SERVICE, wait_seconds(headers))
    if status == HTTPStatus.UNAUTHORIZED:
        return AuthError(SERVICE, said or f"HTTP {status}")
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return RejectedError(SERVICE, said or f"HTTP {status}")
    return UnavailableError(SERVICE, said or f"HTTP {status}")


def _refused(first: Mapping[str, Any], headers: Mapping[str, str]) -> IntegrationError:
    more = first.get("extensions")
    told: Mapping[str, Any] = more if isinstance(more, Mapping) else {}
    kind, code = str(told.get("type", "")).lower(), str(told.get("code", "")).upper()
    said = _said(first, told)
    if kind in _RATE or code == "RATELIMITED":
        return RateLimitedError(SERVICE, wait_seconds(headers))
    if kind in _AUTH or code == "AUTHENTICATION_ERROR":
        return AuthError(SERVICE, said)
    if kind in _PASSING or code == "INTERNAL_SERVER_ERROR":
        return UnavailableError(SERVICE, said)
    status = told.get("statusCode")
    if isinstance(status, int) and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(SERVICE, said)
    return RejectedError(SERVICE, said)


def _said(first: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    message = one_line(str(first.get("message") or ""))
    shown = one_line(str(told.get("userPresentableMessage") or ""))
    both = f"{shown} ({message})" if shown and message and shown != message else shown or message
    return (both or str(told.get("code") or "no reason given"))[:MAX_SAID]


def wait_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float:
    """Until something is allowed again: `Retry-After`, else the latest of the limits that are used up."""
    if (after := headers.get("retry-after", "")).isascii() and after.isdigit():
        return min(float(after), LONGEST_WAIT_SECONDS)
    resets = [_number(headers[name]) for name in headers if _is_used_up(name, headers)]
    known = [at for at in resets if at is not None]
    if not known:
        return DEFAULT_WAIT_SECONDS
    left = max(known) / 1000 - (time.time() if now is None else now)
    return min(max(left, 1.0), LONGEST_WAIT_SECONDS)


def _is_used_up(name: str, headers: Mapping[str, str]) -> bool:
    if not (name.startswith("x-ratelimit-") and name.endswith("-reset")):
        return False
    left = _number(headers.get(f"{name.removesuffix('reset')}remaining", ""))
    return left is not None and left <= 0


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def is_duplicate(error: RejectedError) -> bool:
    """A thing with this id is there: what we wanted."""
    return _DUPLICATE.search(error.code) is not None
