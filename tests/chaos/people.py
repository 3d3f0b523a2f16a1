"""Those who ask: one errand each, in Slack or Linear, told again and again until it is acknowledged."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from random import Random

import httpx

from tests.chaos.site import CHANNEL, PERSON, Site
from tests.support.linear.entities import Session
from tests.support.slack_payloads import payload, signed

AGAIN_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class People:
    site: Site
    rng: Random
    threads: list[str] = field(default_factory=list)
    """Of those who asked in Slack."""
    sessions: list[Session] = field(default_factory=list)
    """Of those who delegated a ticket."""

    async def ask(self, number: int) -> None:
        """A short errand that changes a file of its own; one in five is a ticket."""
        seconds = self.rng.uniform(0, 3)
        recipe = f"```sh\nsleep {seconds:.1f}\necho {number} > note-{number}.txt\n```"
        if number % 5 == 4:
            issue = self.site.linear.world.issue(f"Note {number}", description=recipe)
            self.sessions.append(await self.site.linear.people.delegate(issue))
            return
        text = f"<@U0ERRAND> note {number}\n{recipe}"
        ts = self.site.slack.say(CHANNEL, text, user=PERSON)
        self.threads.append(ts)
        event = payload("app_mention", ts=ts, event_ts=ts, text=text, channel=CHANNEL, user=PERSON)
        twice = self.rng.random() < 0.2
        await self._deliver(json.dumps(event | {"event_id": f"Ev{number:08}"}).encode())
        if twice:
            await self._deliver(json.dumps(event | {"event_id": f"Ev{number:08}"}).encode())

    async def _deliver(self, body: bytes) -> None:
        """As Slack does, but sooner: until it is acknowledged."""
        async with httpx.AsyncClient(timeout=3) as client:
            while True:
                headers = signed(body, at=time.time())
                url = f"{self.site.errand.url}/slack/events"
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.post(url, content=body, headers=headers)).status_code == 200:
                        return
                await asyncio.sleep(AGAIN_SECONDS)
