"""Deliveries from Slack, over HTTP and Socket Mode: one path through Bolt for both.

What Bolt answers waits for `receive`: a failure is a 500, or no acknowledgement on the socket, and
Slack delivers again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import structlog
from slack_bolt import BoltResponse
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.authorization.async_authorize import AsyncAuthorize
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.middleware.async_middleware import AsyncMiddleware
from slack_sdk.web.async_client import AsyncWebClient
from typing_extensions import override

from integrations.channel import Receive
from integrations.errors import MalformedPayloadError
from integrations.slack.client import SlackClient
from integrations.slack.events import parse_event

log = structlog.get_logger()

LISTENED = frozenset({"app_mention", "message"})


def bolt_app(client: SlackClient, receive: Receive, *, api_url: str) -> AsyncApp:
    """The app that both transports feed. What it is given over HTTP must already be verified."""
    app = AsyncApp(
        name="errand.slack",
        logger=_quiet_logger(),
        client=AsyncWebClient(base_url=api_url, retry_handlers=[]),
        authorize=_KnownIdentity(client),
        # Off: our route verifies the raw bytes before anything parses them; events of our own
        # are dropped by the parser; nothing here uses what the others would prepare.
        request_verification_enabled=False,
        ignoring_self_events_enabled=False,
        ssl_check_enabled=False,
        attaching_function_token_enabled=False,
        attaching_conversation_kwargs_enabled=False,
    )
    app.use(_Deliveries(client, receive))
    app.error(_refuse)
    return app


def _quiet_logger() -> logging.Logger:
    """Below WARNING Bolt logs bodies and tokens; what it makes later copies this level."""
    logger = logging.getLogger("errand.slack.bolt")
    logger.setLevel(logging.WARNING)
    return logger


class _KnownIdentity(AsyncAuthorize):
    """One workspace, one token: who we are is asked once, not in every request."""

    def __init__(self, client: SlackClient) -> None:
        self._client = client
        self._known: AuthorizeResult | None = None

    @override
    async def __call__(
        self,
        *,
        context: AsyncBoltContext,
        enterprise_id: str | None,
        team_id: str | None,
        user_id: str | None,
        actor_enterprise_id: str | None = None,
        actor_team_id: str | None = None,
        actor_user_id: str | None = None,
    ) -> AuthorizeResult:
        if self._known is None:
            bot = await self._client.identity()
            self._known = AuthorizeResult(
                enterprise_id=None,
                team_id=bot.team_id,
                bot_id=bot.bot_id,
                bot_user_id=bot.user_id,
            )
        return self._known


class _Deliveries(AsyncMiddleware):
    """Receive what somebody said; acknowledge the rest, for Bolt's 404 would make Slack retry.

    A middleware and no listener: Bolt acknowledges an event before its listener runs, and finding
    and calling one takes twice as long as all that is done here.
    """

    def __init__(self, client: SlackClient, receive: Receive) -> None:
        self._client = client
        self._receive = receive

    @override
    async def async_process(
        self,
        *,
        req: AsyncBoltRequest,
        resp: BoltResponse,
        next: Callable[[], Awaitable[BoltResponse]],
    ) -> BoltResponse:
        kind = _event_type(req.body)
        if kind not in LISTENED:
            log.info("slack_delivery_ignored", kind=req.body.get("type"), event_type=kind)
            return BoltResponse(status=200)
        inbound = parse_event(
            req.body, bot=await self._client.identity(), received_at=datetime.now(UTC)
        )
        if inbound is not None:
            await self._receive(inbound)
        return BoltResponse(status=200)


def _event_type(body: Mapping[str, object]) -> str | None:
    event = body.get("event")
    kind = event.get("type") if isinstance(event, Mapping) else None
    return kind if isinstance(kind, str) and body.get("type") == "event_callback" else None


async def _refuse(error: Exception, body: dict[str, object]) -> BoltResponse:
    """A shape we don't know will not get better by itself; anything else may."""
    event_id = body.get("event_id")
    if isinstance(error, MalformedPayloadError):
        log.error("slack_payload_malformed", event_id=event_id, reason=str(error))
        return BoltResponse(status=400, headers={"x-slack-no-retry": "1"})
    log.error("slack_delivery_not_stored", event_id=event_id, exc_info=error)
    return BoltResponse(status=500)
