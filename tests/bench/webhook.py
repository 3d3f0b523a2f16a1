"""A webhook, from its first byte to the 200: a mention is stored and committed, while all the rest of `serve` goes on."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tests.bench.children import child
from tests.bench.figures import Figure, at_least, at_most, ratio, sample
from tests.bench.load import Load, burst, mention
from tests.bench.site import inbox_empty, installed, request
from tests.support.installation import Installation

ROUNDS = 5
REQUESTS = {1: 150, 32: 480}
"""By number of connections."""
P99_MS = 50.0
SHARE = 0.4


@dataclass(slots=True)
class _Measured:
    ours: list[Load] = field(default_factory=list)
    bare: list[Load] = field(default_factory=list)
    worked_off: list[float] = field(default_factory=list)
    """Deliveries per second."""


async def measure(root: Path, console: Console) -> list[Figure]:
    """Each round anew: a burst to us, wait until it is worked off, the same burst to the bare route."""
    numbers = itertools.count(1)
    found = {connections: _Measured() for connections in REQUESTS}
    async with child("slack") as slack, child("bare") as bare:
        url = f"http://127.0.0.1:{slack.port}/api/"
        async with installed(root, slack_url=url) as site:
            site.start("serve")
            await site.answers()
            await _ours(site, _mentions(numbers, 50), connections=4)
            await burst(bare.port, _mentions(numbers, 50), connections=4)
            for number in range(ROUNDS):
                for connections, measured in found.items():
                    sent = _mentions(numbers, REQUESTS[connections])
                    load, drain = await _ours(site, sent, connections=connections)
                    measured.ours.append(load)
                    measured.worked_off.append(drain)
                    measured.bare.append(await burst(bare.port, sent, connections=connections))
                console.log(f"webhook: round {number + 1} of {ROUNDS}")
    figures = [f for c, measured in found.items() for f in _figures(c, measured)]
    many = found[max(found)]
    return [*figures, _drain(many.worked_off)]


async def _ours(
    site: Installation, requests: Sequence[bytes], *, connections: int
) -> tuple[Load, float]:
    begun = time.perf_counter()
    load = await burst(site.port, requests, connections=connections)
    await inbox_empty(site)
    return load, len(requests) / (time.perf_counter() - begun)


def _mentions(numbers: "itertools.count[int]", count: int) -> list[bytes]:
    """Each a message of its own, which becomes a task."""
    taken = list(itertools.islice(numbers, count))
    return [
        mention(f"Ev{n:010}", f"{1_732_000_000 + n}.000100", text=request("true")) for n in taken
    ]


def _figures(connections: int, measured: _Measured) -> list[Figure]:
    times, bare_times = (
        [1000 * x for load in loads for x in load.latencies]
        for loads in (measured.ours, measured.bare)
    )
    rates, bare_rates = ([x.per_second for x in xs] for xs in (measured.ours, measured.bare))
    over = f"{connections} connection" + "s" * (connections > 1)
    ours, bare = sample("webhook", times), sample("FastAPI route, HMAC only", bare_times)
    share = ratio(rates, bare_rates)
    shares = (at_least("share of the bare route's rate", share, SHARE),) if connections > 1 else ()
    return [
        Figure(
            name=f"webhook → 200, {over}",
            unit="ms",
            ours=ours,
            baseline=bare,
            ratio=round(ours.p50 / bare.p50, 2),
            aims=(at_most(f"p99 ≤ {P99_MS:g} ms", ours.p99, P99_MS),),
            note="closed loop; every event is a new mention that becomes a task",
        ),
        Figure(
            name=f"webhooks per second, {over}",
            unit="1/s",
            ours=sample("webhook, per round", rates),
            baseline=sample("FastAPI route, HMAC only, per round", bare_rates),
            ratio=share,
            aims=shares,
        ),
    ]


def _drain(rates: Sequence[float]) -> Figure:
    return Figure(
        name="mentions per second, worked off",
        unit="1/s",
        ours=sample("from the first webhook of a burst to an empty inbox, per round", rates),
        note="policy decided, task, audit and replies written",
    )
