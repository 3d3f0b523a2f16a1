"""How a process ends: by itself, or by a signal."""

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any


def run_until_signalled(main: Coroutine[Any, Any, None]) -> None:
    """Run it until it ends, or until SIGTERM or SIGINT cancels it; nothing is lost by either.

    Raises:
        KeyboardInterrupt: it was SIGINT.
    """
    received: list[signal.Signals] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(main)

            def stop(number: signal.Signals) -> None:
                received.append(number)
                running.cancel()

            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop, number)

    gc.freeze()  # the imports stay: a collection that looks through them halts everything for 0.1 s
    asyncio.run(watched())
    if signal.SIGINT in received:
        raise KeyboardInterrupt
