"""Waiting out what time mends in Redis."""

import socket
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import stamina
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

PASSING: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    OSError,
)
"""Redis is away, starts, fails over, or is full."""


ANSWER_SECONDS: Final = 10.0
"""So much later than it should a read that waits for news comes back, or it is broken off and begun again."""
_LINE: Final = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 25_000,
}
"""A machine that has vanished says nothing, not even an end: the kernel asks, and gives a line up after 25 seconds.

Not redis' own `socket_timeout`: it is made of `asyncio.wait_for`, which swallows cancellations before Python 3.12.
"""


def line_options(url: str) -> dict[str, Any]:
    """What to make a client's connections with."""
    if urlsplit(url).scheme == "unix":
        return {}
    known = {getattr(socket, name): value for name, value in _LINE.items() if hasattr(socket, name)}
    return {"socket_keepalive": True, "socket_keepalive_options": known}


async def patiently(
    command: Callable[[], Any], *, failed: Callable[[], None] = lambda: None
) -> Any:
    """The answer to a Redis command that is safe twice; waits for Redis as long as it takes.

    Args:
        command: what is sent.
        failed: called each time that it was sent in vain.
    """
    # A closure and a context, because a retry is logged with its arguments, and events hold people's words.
    async for attempt in stamina.retry_context(
        on=PASSING, attempts=None, timeout=None, wait_initial=0.05, wait_max=2.0, wait_jitter=0.2
    ):
        with attempt:
            try:
                return await command()
            except PASSING:
                failed()
                raise
    raise AssertionError("unreachable: the retry above has no limit")
