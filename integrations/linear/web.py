"""POST /linear/webhook: size, signature, time, then what it says."""

import re
from collections.abc import Callable
from datetime import datetime

import structlog
from fastapi import APIRouter, Request, Response

from integrations.errors import BadSignatureError, MalformedPayloadError
from integrations.linear.deliveries import Deliveries
from integrations.linear.verify import verify

log = structlog.get_logger()

MAX_BODY_BYTES = 5 * 1024 * 1024
DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def webhook_router(
    deliveries: Deliveries, *, secret: str, now: Callable[[], datetime]
) -> APIRouter:
    """Linear takes 200 alone for delivered, and tries again after a minute, an hour and six hours."""
    router = APIRouter()

    @router.post("/linear/webhook", include_in_schema=False)
    async def webhook(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return Response(status_code=413)
        at = now()
        try:
            payload = verify(secret, headers=request.headers, body=body, now=at)
            await deliveries.take(payload, delivery_id=_delivery_id(request), at=at)
        except BadSignatureError as error:
            log.warning("linear_signature_bad", reason=str(error))
            return Response(status_code=401)
        except MalformedPayloadError as error:
            log.warning("linear_payload_malformed", reason=str(error))
            return Response(status_code=400)
        return Response(status_code=200)

    return router


def _delivery_id(request: Request) -> str:
    """The same each time that Linear sends it."""
    given = request.headers.get("linear-delivery", "")
    if not DELIVERY_ID.fullmatch(given):
        raise MalformedPayloadError("Linear's delivery is without a valid Linear-Delivery")
    return given


async def _body(request: Request) -> bytes | None:
    """The raw bytes, or None if there are more than Linear would ever send."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
