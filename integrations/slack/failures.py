"""What Slack's answers and silences mean, in our errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RateScope,
    RejectedError,
    UnavailableError,
)

AUTH_CODES = frozenset(
    {
        "account_inactive",
        "ekm_access_denied",
        "invalid_auth",
        "missing_scope",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
    }
)
"""The workspace's token as a whole is not taken, or may post nowhere (`ekm_access_denied`).

Others tell of one method or one place only, and stop nothing else: `no_permission` where the app is no member,
`access_denied`, `enterprise_is_restricted`, `not_allowed_token_type`. https://docs.slack.dev/reference/methods/chat.postMessage
"""
PASSING_CODES = frozenset(
    {"fatal_error", "internal_error", "request_timeout", "service_unavailable"}
)
"""Answers that say nothing about the call itself: Slack warns that it may have taken effect."""
UNREADABLE = (
    SlackClientError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
    AttributeError,  # what the SDK raises where a proxy answers 200 with a text of its own
)
RATE_CODES = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
DEFAULT_WAIT_SECONDS = 30.0


@contextmanager
def slack_errors() -> Iterator[None]:
    """Whatever the SDK raises becomes one of `IntegrationError`'s leaves."""
    try:
        yield
    except SlackApiError as error:
        raise from_answer(error) from error
    except UNREADABLE as error:
        raise UnavailableError("slack", type(error).__name__) from error


def from_answer(error: SlackApiError) -> IntegrationError:
    """What an answer of Slack that is not `ok` means."""
    # An answer that was no JSON leaves the raw HTTP response here, or no data in ours.
    status: int = getattr(error.response, "status_code", 0) or getattr(error.response, "status", 0)
    data = getattr(error.response, "data", None)
    code = str(data.get("error", "")) if isinstance(data, Mapping) else ""
    if status == HTTPStatus.TOO_MANY_REQUESTS or code in RATE_CODES:
        return RateLimitedError("slack", _wait(error.response.headers), scope=_scope(error))
    if code in AUTH_CODES and not (code == "missing_scope" and _is_mark(error)):
        return AuthError("slack", code)
    if not code or code in PASSING_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError("slack", code or f"HTTP {status}")
    return RejectedError("slack", code)


def _url(error: SlackApiError) -> str:
    return str(getattr(error.response, "api_url", ""))


def _is_mark(error: SlackApiError) -> bool:
    """Without the scope for reactions everything is said all the same."""
    return "/reactions." in _url(error)


def _scope(error: SlackApiError) -> RateScope:
    """Slack counts by method and workspace; posts besides by channel, one a second.

    https://docs.slack.dev/apis/web-api/rate-limits
    """
    return "place" if _url(error).endswith("/chat.postMessage") else "method"


def _wait(headers: Mapping[str, str]) -> float:
    value = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else DEFAULT_WAIT_SECONDS
