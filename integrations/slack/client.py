"""Slack's Web API with our errors: one attempt per call, since only the caller knows what is safe twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.slack.config import SlackConfig
from integrations.slack.identity import Identity

AUTH_CODES = frozenset(
    {
        "access_denied",
        "account_inactive",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
    }
)
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
PAGE = 200
MAX_PAGES = 50


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
        return RateLimitedError("slack", _wait(error.response.headers))
    if code in AUTH_CODES:
        return AuthError("slack", code)
    if not code or code in PASSING_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError("slack", code or f"HTTP {status}")
    return RejectedError("slack", code)


def _wait(headers: Mapping[str, str]) -> float:
    value = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else DEFAULT_WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message in a thread, as far as we read it."""

    ts: str
    user: str
    bot_id: str
    key: str
    """The key it was posted with, if it is one of ours."""


class SlackClient:
    """The handful of methods we use. Made without a running loop; the connection opens with the first call."""

    def __init__(self, config: SlackConfig, *, timeout_seconds: float = 10) -> None:
        self._config = config
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._identity: Identity | None = None
        self._asking = asyncio.Lock()
        self._names: dict[str, str] = {}

    async def identity(self) -> Identity:
        """Who we are: asked once, then known."""
        if self._identity is None:
            async with self._asking:
                if self._identity is None:
                    self._identity = await self.who()
        return self._identity

    async def who(self) -> Identity:
        """Who we are, asked anew."""
        with slack_errors():
            answer = await self.web().auth_test()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        scopes = headers.get("x-oauth-scopes")
        return Identity(
            team_id=str(answer.get("team_id") or ""),
            user_id=str(answer.get("user_id") or ""),
            bot_id=str(answer.get("bot_id") or ""),
            url=str(answer.get("url") or ""),
            scopes=None if scopes is None else frozenset(s.strip() for s in scopes.split(",")),
        )

    async def name_of(self, user: str) -> str:
        """The display name, or the real one; asked once per user."""
        if user not in self._names:
            answer = await self._call("users.info", {"user": user})
            found: Mapping[str, object] = answer.get("user") or {}
            profile = found.get("profile")
            shown = profile.get("display_name") if isinstance(profile, Mapping) else None
            self._names[user] = str(shown or found.get("real_name") or found.get("name") or user)
        return self._names[user]

    async def post(
        self, *, channel: str, thread: str, text: str, blocks: list[dict[str, object]], key: str
    ) -> str:
        """Post into a thread, or, where that is empty, into the channel itself."""
        with slack_errors():
            answer = await self.web().chat_postMessage(
                channel=channel,
                thread_ts=thread or None,
                text=text,
                blocks=blocks,
                metadata={"event_type": "errand_reply", "event_payload": {"key": key}},
                unfurl_links=False,
                unfurl_media=False,
            )
        return str(answer["ts"])

    async def update(
        self, *, channel: str, ts: str, text: str, blocks: list[dict[str, object]]
    ) -> None:
        with slack_errors():
            await self.web().chat_update(channel=channel, ts=ts, text=text, blocks=blocks)

    async def react(self, *, channel: str, ts: str, name: str, present: bool) -> None:
        """Add or remove a reaction; already so is fine."""
        done, method = (
            ("already_reacted", "reactions.add") if present else ("no_reaction", "reactions.remove")
        )
        try:
            await self._call(method, {"channel": channel, "timestamp": ts, "name": name})
        except RejectedError as error:
            if error.code != done:
                raise

    async def replies(self, *, channel: str, thread: str, oldest: float) -> AsyncIterator[Message]:
        """The thread's messages from `oldest` on, page by page."""
        async for message in self._messages(
            "conversations.replies", {"channel": channel, "ts": thread}, oldest=oldest
        ):
            yield message

    async def history(self, *, channel: str, oldest: float) -> AsyncIterator[Message]:
        """The channel's own messages from `oldest` on, newest first, page by page."""
        async for message in self._messages(
            "conversations.history", {"channel": channel}, oldest=oldest
        ):
            yield message

    async def _messages(
        self, method: str, of: Mapping[str, object], *, oldest: float
    ) -> AsyncIterator[Message]:
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            answer = await self._call(
                method,
                {
                    **of,
                    "oldest": f"{oldest:.6f}",
                    "inclusive": 1,
                    "include_all_metadata": 1,  # a form: Python's True would be sent as "True"
                    "limit": PAGE,
                    "cursor": cursor,
                },
            )
            for raw in answer.get("messages") or ():
                yield _message(raw)
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return

    async def _call(self, method: str, data: dict[str, object]) -> AsyncSlackResponse:
        """A method by its name, with a form as its body: the SDK's own wrappers put some into the query."""
        with slack_errors():
            return await self.web().api_call(method, data=data)

    async def try_app_token(self) -> None:
        """Ask for a Socket Mode address, and leave it unused."""
        if self._config.app_token is not None:
            with slack_errors():
                await self.web().apps_connections_open(
                    app_token=self._config.app_token.get_secret_value()
                )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def web(self) -> AsyncWebClient:
        """The SDK's client, without retries: they would post twice after a lost answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        return AsyncWebClient(
            token=self._config.bot_token.get_secret_value(),
            base_url=self._config.api_url,
            session=self._session,
            retry_handlers=[],
        )


def _message(raw: Mapping[str, object]) -> Message:
    metadata = raw.get("metadata")
    payload = metadata.get("event_payload") if isinstance(metadata, Mapping) else None
    key = payload.get("key") if isinstance(payload, Mapping) else None
    return Message(
        ts=str(raw["ts"]),
        user=str(raw.get("user") or ""),
        bot_id=str(raw.get("bot_id") or ""),
        key=str(key or ""),
    )
