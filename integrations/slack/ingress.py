"""Deliveries from Slack, over HTTP and Socket Mode: one path through Bolt for both.

What Bolt answers waits for `receive`: a failure is a 500, or no acknowledgement on the socket, and
Slack delivers again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import structlog
from slack_bolt import BoltResponse
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.authorization.async_authorize import AsyncAuthorize
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.middleware.async_middleware import AsyncMiddleware
from slack_sdk.web.async_client import AsyncWebClient
from typing_extensions import override

from integrations.errors import MalformedPayloadError
from integrations.slack.arrivals import Arrivals

log = structlog.get_logger()

ANSWER_SECONDS = 2.8
"""Slack waits for three."""


def bolt_app(arrivals: Arrivals, *, api_url: str) -> AsyncApp:
    """The app that both transports feed. What it is given over HTTP must already be verified."""
    app = AsyncApp(
        name="errand.slack",
        logger=_quiet_logger(),
        client=AsyncWebClient(base_url=api_url, retry_handlers=[]),
        authorize=_Known(),
        # Off: our route verifies the raw bytes before anything parses them; events of our own
        # are dropped by the parser; nothing here uses what the others would prepare.
        request_verification_enabled=False,
        ignoring_self_events_enabled=False,
        ssl_check_enabled=False,
        attaching_function_token_enabled=False,
        attaching_conversation_kwargs_enabled=False,
    )
    app.use(_Deliveries(arrivals))
    app.error(_refuse)
    return app


def _quiet_logger() -> logging.Logger:
    """Below WARNING Bolt logs bodies and tokens; what it makes later copies this level."""
    logger = logging.getLogger("errand.slack.bolt")
    logger.setLevel(logging.WARNING)
    return logger


class _Known(AsyncAuthorize):
    """Bolt wants somebody to be; which workspace it is, and who we are there, `Arrivals` finds out itself."""

    def __init__(self) -> None:
        """Without it, Bolt's own would be untyped."""

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
        return AuthorizeResult(
            enterprise_id=enterprise_id, team_id=team_id, bot_id="errand", bot_user_id="errand"
        )


class _Deliveries(AsyncMiddleware):
    """Everything goes to `Arrivals`, for Bolt's 404 would make Slack retry.

    A middleware and no listener: Bolt acknowledges an event before its listener runs, and finding
    and calling one takes twice as long as all that is done here.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    @override
    async def async_process(
        self,
        *,
        req: AsyncBoltRequest,
        resp: BoltResponse,
        next: Callable[[], Awaitable[BoltResponse]],
    ) -> BoltResponse:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await self._arrivals.take(req.body)
        if not answer:
            return BoltResponse(status=200)
        return BoltResponse(status=200, body=answer, headers={"content-type": "application/json"})


async def _refuse(error: Exception, body: dict[str, object]) -> BoltResponse:
    """A shape we don't know will not get better by itself; anything else may."""
    event_id = body.get("event_id")
    if isinstance(error, MalformedPayloadError):
        log.error("slack_payload_malformed", event_id=event_id, reason=str(error))
        return BoltResponse(status=400, headers={"x-slack-no-retry": "1"})
    log.error("slack_delivery_not_stored", event_id=event_id, exc_info=error)
    return BoltResponse(status=500)
