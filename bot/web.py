"""The HTTP side of `errand serve`: a router per channel, forge pages, the workers' API, health."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from typing_extensions import override

from bot.errors import SetupError
from bot.settings import HttpSettings
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

FAREWELL_SECONDS = 5
"""What a request gets to end that came before the end."""
PORT_ERRORS = frozenset({errno.EADDRINUSE, errno.EACCES})

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


class _Server(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: `bot.processes` listens for them."""
        yield


async def serve_http(app: FastAPI, settings: HttpSettings) -> None:
    """Answer HTTP until cancelled; then take nothing new, and answer what was asked already.

    Raises:
        SetupError: the address is taken, or is not ours.
    """
    with _listen(settings) as listening:
        log.info("serving", url=settings.public_url or settings.local_url)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=FAREWELL_SECONDS,
        )
        server = _Server(config)
        try:
            await server.serve(sockets=[listening])
        except asyncio.CancelledError:
            if server.started:
                await server.shutdown(sockets=[listening])
            raise


def _listen(settings: HttpSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        number = error.errno or 0
        wrong = "ERRAND_HTTP__PORT" if number in PORT_ERRORS else "ERRAND_HTTP__HOST"
        reason = os.strerror(number) if number in errno.errorcode else error.strerror
        raise SetupError(
            f"can't listen on {settings.host}:{settings.port} ({reason}): set another {wrong}"
        ) from error
