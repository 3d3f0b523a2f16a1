"""Blocking work that nobody waits for at the end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from bot.errors import SetupError
from runner.errors import RunnerError

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, for minutes of work on Docker: cancelled, it is left behind and keeps no process up."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(work, future), daemon=True).start()
    return await asyncio.wrap_future(future)


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except RunnerError as error:
        future.set_exception(error)
    finally:
        if not future.done():  # threading's own hook prints the trace
            future.set_exception(SetupError("an unforeseen error, with its trace above"))
