"""From sending a mention to the card's `chat.postMessage` arriving at Slack."""

import time
from pathlib import Path

from rich.console import Console

from tests.bench.figures import Figure, at_most, sample
from tests.bench.load import burst, mention
from tests.bench.site import CHANNEL, PERSON, inbox_empty, installed, request
from tests.support.slack_api import SlackApi, slack_api

MENTIONS = 60
WARM_UP = 3
P95_MS = 300.0


async def measure(root: Path, console: Console) -> list[Figure]:
    """One mention after the other; each waits until all is said that there is to say."""
    times: list[float] = []
    async with slack_api() as slack, installed(root, slack_url=slack.url) as site:
        slack.people = {PERSON: ("dana", "Dana")}
        site.start("serve")
        await site.answers()
        for number in range(MENTIONS + WARM_UP):
            times.append(await _ask(slack, site.port, number))
            await inbox_empty(site)
    console.log(f"card: {MENTIONS} mentions")
    cards = sample("mention → card", [1000 * seconds for seconds in times[WARM_UP:]])
    aim = at_most(f"p95 ≤ {P95_MS:g} ms", cards.p95, P95_MS)
    return [Figure(name="mention → card posted", unit="ms", ours=cards, aims=(aim,))]


async def _ask(slack: SlackApi, port: int, number: int) -> float:
    text = request("true")
    thread = slack.say(CHANNEL, text)
    event = mention(f"EvCard{number:05}", thread, text=text)

    def arrived() -> bool:
        return any(
            name == "chat.postMessage" and args.get("thread_ts") == thread
            for name, args in slack.calls
        )

    begun = time.perf_counter()
    await burst(port, [event], connections=1)
    await slack.until(arrived)
    return time.perf_counter() - begun
