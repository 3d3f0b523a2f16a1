"""Linear: a delivery to its 200, a delegation to the first sign of life, and what a run costs in requests."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from rich.console import Console

from integrations.localforge.forge import LocalForge
from tests.bench.children import child
from tests.bench.figures import Figure, at_most, sample
from tests.bench.load import Load, burst
from tests.bench.site import FILES, REPO, inbox_empty
from tests.support.installation import Installation, installation, until
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET
from tests.support.linear.webhooks import SECRET, sign

ROUNDS = 4
WARM_UP = 3
DELEGATIONS = 60
BURSTS = {1: 40, 16: 112}
"""How many deliveries over so many connections, in each round."""
WEBHOOK_P99_MS = 500.0
"""A tenth of what Linear waits."""
LIFE_P95_MS = 1000.0
RUN_SECONDS = 60
TEN_MINUTES = 600
MOST_REQUESTS = 40
POLICY = f"""\
version: 1
rules:
  - {{who: ["*"], where: ["linear:ENG"], repos: [{REPO}], agents: [script], may: [start, steer, stop]}}
repos:
  {REPO}: {{forge: local, default_for: ["linear:ENG"], review_state: In Review}}
limits: {{wall_minutes: 5, memory: 512MB, cpus: 1, pids: 128, disk: 128MB, tasks: 1, tasks_per_person: 1,
  tasks_per_repo: 1}}
"""
QUICK = "```sh\ntrue\n```"
CHATTY = "".join(["```sh\n", *(f"sleep 1.{n:02}\n" for n in range(RUN_SECONDS)), "```"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Linear in a process of its own, and an Errand that listens to it."""

    linear: str
    site: Installation

    # Any: a delivery is JSON.
    async def delegated(self, count: int, text: str = QUICK) -> list[dict[str, Any]]:
        """So many tickets; nobody has been told yet."""
        return list(await self._asked("delegated", count=str(count), text=text))

    async def seen(self) -> dict[str, Any]:
        return dict(await self._asked("seen"))

    async def _asked(self, what: str, **query: str) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.get(f"{self.linear}/bench/{what}", params=query)
        return answer.raise_for_status().json()

    async def tell(self, bodies: Sequence[dict[str, Any]], *, connections: int = 1) -> Load:
        return await burst(self.site.port, [delivery(b) for b in bodies], connections=connections)


def delivery(body: dict[str, Any]) -> bytes:
    """Signed now, as the bytes of an HTTP request."""
    raw = json.dumps({**body, "webhookTimestamp": int(time.time() * 1000)}).encode()
    headers = {
        "host": "errand", "content-type": "application/json", "content-length": str(len(raw)),
        "linear-delivery": str(uuid4()), "linear-signature": sign(raw, SECRET),
    }  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /linear/webhook HTTP/1.1\r\n{head}\r\n".encode() + raw


@contextlib.asynccontextmanager
async def _lead(root: Path, *, work: bool) -> AsyncIterator[Lead]:
    async with child("linear") as linear:
        url = f"http://127.0.0.1:{linear.port}"
        settings = {
            "ERRAND_LINEAR__CLIENT_ID": CLIENT_ID, "ERRAND_LINEAR__CLIENT_SECRET": CLIENT_SECRET,
            "ERRAND_LINEAR__WEBHOOK_SECRET": SECRET, "ERRAND_LINEAR__API_URL": url,
            "ERRAND_LINEAR__MODE": "client_credentials",
        }  # fmt: skip
        async with _quiet(root, settings) as site:
            forge = LocalForge(site.data / "forge", site.url)
            await forge.create_repo(REPO, FILES)
            await forge.close()
            site.start("serve")
            await site.answers()
            if work:
                site.start("work")
            yield Lead(linear=url, site=site)


@contextlib.asynccontextmanager
async def _quiet(root: Path, settings: dict[str, str]) -> AsyncIterator[Installation]:
    """Its logs stay in their files."""
    with contextlib.redirect_stdout(None):
        async with installation(root, policy=POLICY, settings=settings) as site:
            yield site


async def measure(root: Path, console: Console) -> list[Figure]:
    async with _lead(root / "serve", work=False) as lead:
        await lead.tell(await lead.delegated(WARM_UP))
        await inbox_empty(lead.site)
        figures = [await _life(lead), *await _webhooks(lead, console)]
    console.log("linear: deliveries and first signs of life")
    async with _lead(root / "work", work=True) as lead:
        return [*figures, await _requests(lead)]


async def _life(lead: Lead) -> Figure:
    """One delegation after the other, each worked off before the next."""
    times: list[float] = []
    for body in await lead.delegated(DELEGATIONS):
        begun = time.time()
        await lead.tell([body])
        times.append(1000 * (await _sign(lead, body["agentSession"]["id"]) - begun))
        await inbox_empty(lead.site)
    mine = sample("delegation → first activity", times)
    aim = at_most(f"p95 ≤ {LIFE_P95_MS:g} ms", mine.p95, LIFE_P95_MS)
    return Figure(name="Linear: delegated → first activity", unit="ms", ours=mine, aims=(aim,))


async def _sign(lead: Lead, session: str) -> float:
    """When it showed life, by the clock that we all share."""

    async def look() -> float | None:
        found: float | None = (await lead.seen())["signs"].get(session)
        return found

    return await until(look, seconds=30, what="the session shows life")


async def _webhooks(lead: Lead, console: Console) -> list[Figure]:
    latencies: dict[int, list[float]] = {connections: [] for connections in BURSTS}
    for number in range(ROUNDS):
        for connections, count in BURSTS.items():
            load = await lead.tell(await lead.delegated(count), connections=connections)
            latencies[connections] += [1000 * seconds for seconds in load.latencies]
            await inbox_empty(lead.site)
        console.log(f"linear: round {number + 1} of {ROUNDS}")
    return [_webhook(connections, found) for connections, found in latencies.items()]


def _webhook(connections: int, latencies: Sequence[float]) -> Figure:
    mine = sample("webhook", latencies)
    many = "s" * (connections > 1)
    return Figure(
        name=f"Linear: webhook → 200, delegations, {connections} connection{many}",
        unit="ms",
        ours=mine,
        aims=(at_most(f"p99 ≤ {WEBHOOK_P99_MS:g} ms", mine.p99, WEBHOOK_P99_MS),),
        note="every delivery is a new delegation, which is completed and becomes a task",
    )


async def _requests(lead: Lead) -> Figure:
    """A minute with news in every second: what a run costs once, and how far its edits are apart.

    The first edit follows the card soon, and the last comes at the end: they count once too.
    """
    [body] = await lead.delegated(1, CHATTY)
    await lead.tell([body])

    async def ended() -> bool:
        return body["agentSession"]["id"] in (await lead.seen())["ended"]

    await until(ended, seconds=RUN_SECONDS + 60, what="the run has ended")
    await lead.site.cleaned_up()
    seen = await lead.seen()
    once, shown = seen["requests"] - seen["edits"] + 2, seen["shown"][1:]
    apart = min(later - earlier for earlier, later in pairwise(shown))
    total = once + TEN_MINUTES / apart
    mine = sample("requests, in ten minutes", [total])
    return Figure(
        name="Linear: requests for a run of ten minutes",
        unit="requests",
        ours=mine,
        aims=(at_most(f"≤ {MOST_REQUESTS}", total, MOST_REQUESTS),),
        note=f"{once} once, and one every {apart:.3g} s",
    )
