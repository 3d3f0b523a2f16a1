"""The HTTP side of `errand serve`: a router per channel, forge pages, the workers' API, health."""

from collections.abc import Iterable

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from bot.store.errors import StoreError
from integrations.errors import (
    BadSignatureError,
    IntegrationError,
    MalformedPayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)

log = structlog.get_logger()

STATUS: dict[type[Exception], int] = {
    BadSignatureError: 401,
    MalformedPayloadError: 400,
    RejectedError: 502,
    RateLimitedError: 503,
    UnavailableError: 503,
    StoreError: 503,
}
"""What an error becomes at this boundary; a 5xx makes the sender try again."""


def create_app(routers: Iterable[APIRouter]) -> FastAPI:
    app = FastAPI(title="Errand", docs_url=None, redoc_url=None, openapi_url=None)
    for router in routers:
        app.include_router(router)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    for kind in (StoreError, IntegrationError):
        app.add_exception_handler(kind, _answer)
    return app


async def _answer(request: Request, error: Exception) -> JSONResponse:
    status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), 500)
    log.error("request_failed", path=request.url.path, status=status, error=repr(error))
    return JSONResponse({"error": type(error).__name__}, status_code=status)
