"""A host with one run whose agent never ends its turn, as a process of its own: for what only happens to processes."""

import asyncio
import sys
from pathlib import Path

from redis.asyncio import Redis

from runner.protocol import RunKey
from tests.support.agent_container import a_launch
from tests.support.site import Site, until

BUSY_LINES = 8


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, root: str, task: str, fence: str) -> None:
    """Says when its agent is at work, and at the end how many lines its containers still hold."""
    run = RunKey(task=task, fence=int(fence))
    redis = Redis.from_url(url)
    site = Site(root=Path(root), redis=redis)
    site.container.hangs = {"session/prompt"}
    site.serve.add(a_launch(run=run, agent="mender"))
    async with asyncio.TaskGroup() as group:
        group.create_task(site.live(run).follow())
        await until(lambda: site.lines(run) > BUSY_LINES, "the agent is at work")
        say("at work")
    say(f"left {site.lines(run)}")
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
