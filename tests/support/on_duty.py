"""A process that has the duty: says so, waits to be killed."""

import asyncio
import sys

from bot.store.engine import Store


async def main(url: str) -> None:
    if await Store(url).duty.hold():
        print("held", flush=True)  # noqa: T201 - the parent waits for this line
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
