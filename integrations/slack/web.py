"""POST /slack/events: size, signature, then Bolt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from slack_bolt.adapter.fastapi.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.signature import SignatureVerifier
from starlette.types import Message

from integrations.errors import BadSignatureError, IntegrationError
from integrations.slack.verify import verify
from integrations.slack.workspaces import Workspaces

log = structlog.get_logger()

MAX_BODY_BYTES = 1_000_000


def slack_router(app: AsyncApp, workspaces: Workspaces, *, signing_secret: str) -> APIRouter:
    handler = AsyncSlackRequestHandler(app)
    verifier = SignatureVerifier(signing_secret)

    @asynccontextmanager
    async def know_ourselves(_: FastAPI) -> AsyncIterator[None]:
        # So that the first delivery need not ask. If Slack is away now, it will.
        try:
            for client in await workspaces.clients():
                await client.identity()
        except IntegrationError as error:
            log.warning("slack_identity_unknown", error=str(error))
        yield

    router = APIRouter(lifespan=know_ourselves)

    @router.post("/slack/events", include_in_schema=False)
    async def events(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return Response(status_code=413)
        try:
            verify(verifier, headers=request.headers, body=body)
        except BadSignatureError as error:
            log.warning("slack_signature_bad", reason=str(error))
            return Response(status_code=401)
        return await handler.handle(_again(request, body))

    return router


async def _body(request: Request) -> bytes | None:
    """The raw bytes, or None if there are more than Slack would ever send."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _again(request: Request, body: bytes) -> Request:
    """The same request, its body readable once more."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)
