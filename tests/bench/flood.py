"""A hundred signed events each second for a minute, whatever the answers: is each acknowledged in time, and none lost?"""

import asyncio
import time
from pathlib import Path

from rich.console import Console

from bot.store import tasks
from tests.bench.children import child
from tests.bench.figures import Figure, at_least, at_most, sample
from tests.bench.load import mention
from tests.bench.site import inbox_empty, installed, request
from tests.support.installation import Installation

PER_SECOND = 100
SECONDS = 60
SLACK_WAITS_MS = 3000.0


async def measure(root: Path, console: Console) -> list[Figure]:
    """Open loop: the next event does not wait for the answer to the last one."""
    count = PER_SECOND * SECONDS
    async with (
        child("slack") as slack,
        installed(root, slack_url=f"http://127.0.0.1:{slack.port}/api/") as site,
    ):
        site.start("serve")
        await site.answers()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_ask(site.port, n, begun)) for n in range(count)]
        answers = [task.result() for task in asked]
        console.log(f"flood: {count} events in {time.perf_counter() - begun:.0f} s")
        await inbox_empty(site, seconds=900)
        stored = await _stored(site)
    taken = sample("from when it was due to the 200", [1000 * seconds for seconds, _ in answers])
    acknowledged = sum(good for _, good in answers)
    return [
        Figure(
            name=f"webhook → 200, {PER_SECOND} mentions a second for {SECONDS} s",
            unit="ms",
            ours=taken,
            aims=(
                at_most(
                    f"all ≤ {SLACK_WAITS_MS:g} ms, which Slack waits", taken.most, SLACK_WAITS_MS
                ),
                at_least("acknowledged", acknowledged, count),
                at_least("tasks", stored, count),
            ),
            note="each a new mention, which becomes a task; connections of their own",
        )
    ]


async def _ask(port: int, number: int, begun: float) -> tuple[float, bool]:
    """Seconds, and whether it was acknowledged."""
    event, ts = f"EvFlood{number:06}", f"{1_733_000_000 + number}.000100"
    due = begun + number / PER_SECOND
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    body = mention(event, ts, text=request("true"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(body)
    status = await reader.readuntil(b"\r\n")
    seconds = time.perf_counter() - due
    writer.close()
    return seconds, b" 200 " in status


async def _stored(site: Installation) -> int:
    async with site.store() as store, store.read() as conn:
        return await tasks.count_live(conn)
