"""Waiting out what time mends in Redis."""

from collections.abc import Callable
from typing import Any, Final

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
