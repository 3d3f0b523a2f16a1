"""Socket Mode: deliveries over a WebSocket that we open."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from integrations.errors import AuthError, IntegrationError
from integrations.slack.failures import slack_errors

log = structlog.get_logger()


class Socket(Protocol):
    """The part of the SDK's client that we use, with the types it leaves out."""

    async def connect(self) -> None: ...
    async def is_connected(self) -> bool: ...
    async def close(self) -> None: ...


async def listen(
    app: AsyncApp,
    *,
    app_token: str,
    web: AsyncWebClient,
    told: Callable[[bool], None],
    ping_seconds: float = 10,
    patience_seconds: float = 60,
) -> None:
    """Receive until cancelled; `told` hears whether there is a connection.

    The SDK reconnects by itself, but while connecting it keeps to one address, and Slack's
    addresses expire: a connection that stays down is given up and made anew.
    """
    while True:
        async with _connection(app, app_token=app_token, web=web, ping_seconds=ping_seconds) as c:
            await _while_up(
                c, told=told, ping_seconds=ping_seconds, patience_seconds=patience_seconds
            )
        reason = await _reason(web, app_token)
        log.error("slack_socket_given_up", after_seconds=patience_seconds, reason=reason)


@asynccontextmanager
async def _connection(
    app: AsyncApp, *, app_token: str, web: AsyncWebClient, ping_seconds: float
) -> AsyncIterator[Socket]:
    handler = AsyncSocketModeHandler(app, app_token, web_client=web, ping_interval=ping_seconds)
    socket: Socket = handler.client
    try:
        async with asyncio.TaskGroup() as group:
            connecting = group.create_task(socket.connect())
            yield socket
            connecting.cancel()
    finally:
        await socket.close()


async def _reason(web: AsyncWebClient, app_token: str) -> str:
    """What Slack answers to whoever asks for an address: mostly it is the token."""
    try:
        with slack_errors():
            await web.apps_connections_open(app_token=app_token)
    except AuthError as error:
        return f"{error}: renew ERRAND_SLACK__APP_TOKEN"
    except IntegrationError as error:
        return str(error)
    return "Slack gives an address, but no connection came about"


async def _while_up(
    socket: Socket,
    *,
    told: Callable[[bool], None],
    ping_seconds: float,
    patience_seconds: float,
) -> None:
    clock = asyncio.get_running_loop()
    last_up = clock.time()
    while clock.time() - last_up < patience_seconds:
        await asyncio.sleep(min(ping_seconds, patience_seconds / 4))
        connected = await socket.is_connected()
        told(connected)
        if connected:
            last_up = clock.time()
