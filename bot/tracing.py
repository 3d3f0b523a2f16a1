"""Traces, if the settings name a collector."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from bot.errors import SetupError
from bot.settings import OtelSettings
from runner.tracing import NoTracing, Tracing


@asynccontextmanager
async def open_tracing(settings: OtelSettings, *, service: str) -> AsyncIterator[Tracing]:
    """Where spans go for as long as the block runs; what is left is sent at its end.

    Raises:
        SetupError: a collector is named, and OpenTelemetry is not installed.
    """
    if not settings.endpoint:
        yield NoTracing()
        return
    try:
        otel = importlib.import_module("bot.otel")
    except ModuleNotFoundError as error:
        raise SetupError(
            f"ERRAND_OTEL__ENDPOINT is set, but {error.name} is not installed:"
            " `pip install errand[otel]`, or take the setting out"
        ) from error
    processor = otel.batches_to(settings.endpoint, settings.headers.get_secret_value())
    tracing = otel.OtelTracing(processor, service=service, version=version("errand"))
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)
