"""Those who ask: one errand each, in Slack or Linear, told again and again until it is acknowledged. Some stop theirs."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from random import Random

import httpx

from bot.progress import View
from bot.states import TaskState
from bot.store import runs, tasks
from bot.store.errors import StoreError
from tests.chaos.site import CHANNEL, PERSON, Site
from tests.support.installation import until
from tests.support.linear.entities import Session
from tests.support.slack_payloads import payload, signed

AGAIN_SECONDS = 0.5
LONG = 2
"""So many errands come first that do not end by themselves: they are stopped, and not among those that are counted."""
AT_WORK_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class People:
    site: Site
    rng: Random
    threads: list[str] = field(default_factory=list)
    """Of those who asked in Slack."""
    stopped: set[str] = field(default_factory=set)
    """Threads in which the errand was stopped when it had begun."""
    sessions: list[Session] = field(default_factory=list)
    """Of those who delegated a ticket."""

    async def ask(self, number: int) -> None:
        """A short errand that changes a file of its own; one in five is a ticket."""
        seconds = 600 if number < LONG else self.rng.uniform(0, 3)
        recipe = f"```sh\necho {number} > {note(number)}\nsleep {seconds:.1f}\n```"
        if number % 5 == 4:
            issue = self.site.linear.world.issue(f"Note {number}", description=recipe)
            self.sessions.append(await self.site.linear.people.delegate(issue))
            return
        twice = self.rng.random() < 0.2
        self.threads.append(
            await self._say(f"<@U0ERRAND> note {number}\n{recipe}", f"Ev{number:08}", twice=twice)
        )

    async def until_at_work(self) -> None:
        """Every long errand has written its note; in vain perhaps, for a while."""

        async def at_work() -> bool:
            with contextlib.suppress(StoreError):
                return len(await self._at_work()) == LONG
            return False

        with contextlib.suppress(AssertionError):
            await until(at_work, seconds=AT_WORK_SECONDS, what="all are at work", every=0.5)

    async def stop(self) -> None:
        """Stop what is at work, and does not end by itself."""
        for thread in await self._at_work():
            self.stopped.add(thread)
            number = self.threads.index(thread)
            await self._say("<@U0ERRAND> stop", f"Ev9{number:07}", thread=thread)

    async def _at_work(self) -> list[str]:
        async with self.site.errand.store() as store, store.read() as conn:
            rows = await tasks.in_states(conn, {TaskState.RUNNING})
            found = [(row, await runs.newest(conn, row)) for row in rows]
        long = set(self.threads[:LONG])
        return [
            row.conversation.thread
            for row, run in found
            if row.conversation.thread in long
            and run is not None
            and "sleep" in View.model_validate(run.view).doing
        ]

    async def _say(
        self, text: str, event_id: str, *, thread: str | None = None, twice: bool = False
    ) -> str:
        """Its timestamp."""
        ts = self.site.slack.say(CHANNEL, text, user=PERSON, thread=thread)
        event = payload(
            "app_mention", ts=ts, event_ts=ts, thread_ts=thread, text=text, channel=CHANNEL, user=PERSON
        )  # fmt: skip
        for _ in range(2 if twice else 1):
            await self._deliver(json.dumps(event | {"event_id": event_id}).encode())
        return ts

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


def note(number: int) -> str:
    """The file that the errand of that number writes."""
    return f"note-{number}.txt"
