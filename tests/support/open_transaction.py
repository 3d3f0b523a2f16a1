"""A process that dies in the middle of a transaction: writes, says so, waits to be killed."""

import asyncio
import sys

from bot.store import inbox
from bot.store.engine import Store
from tests.support.store import NOW, an_inbound


async def main(url: str) -> None:
    async with Store(url).begin() as tx:
        await inbox.insert(tx, an_inbound(), now=NOW)
        print("inserted", flush=True)  # noqa: T201 - the parent waits for this line
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
