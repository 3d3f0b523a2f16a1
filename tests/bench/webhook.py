"""A webhook, from its first byte to the 200: a mention is stored and committed, while all the rest of `serve` goes on."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from tests.bench.children import child
from tests.bench.figures import Figure, at_least, at_most, ratio, sample
from tests.bench.load import Load, burst, mention, reply
from tests.bench.site import inbox_empty, installed, request
from tests.support.installation import Installation

ROUNDS = 5
P99_MS = 50.0
SHARE = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Burst:
    kind: Literal["mentions", "replies"]
    connections: int
    count: int


BURSTS = (
    _Burst(kind="mentions", connections=1, count=150),
    _Burst(kind="mentions", connections=32, count=480),
    _Burst(kind="replies", connections=32, count=480),
)
NOTES = {
    "mentions": "every event is a new mention, which becomes a task",
    "replies": "every event is a reply in a thread that has no task",
}


@dataclass(slots=True)
class _Measured:
    ours: list[Load] = field(default_factory=list)
    bare: list[Load] = field(default_factory=list)
    worked_off: list[float] = field(default_factory=list)
    """Deliveries per second."""


async def measure(root: Path, console: Console) -> list[Figure]:
    """Each round anew: a burst to us, wait until it is worked off, the same burst to the bare route."""
    numbers = itertools.count(1)
    found = {wanted: _Measured() for wanted in BURSTS}
    warm_up = _Burst(kind="mentions", connections=4, count=50)
    async with child("slack") as slack, child("bare") as bare:
        url = f"http://127.0.0.1:{slack.port}/api/"
        async with installed(root, slack_url=url) as site:
            site.start("serve")
            await site.answers()
            await _round(site, bare.port, _Measured(), wanted=warm_up, numbers=numbers)
            for number in range(ROUNDS):
                for wanted, measured in found.items():
                    await _round(site, bare.port, measured, wanted=wanted, numbers=numbers)
                console.log(f"webhook: round {number + 1} of {ROUNDS}")
    figures = [f for wanted, measured in found.items() for f in _figures(wanted, measured)]
    return [*figures, _drain(found[BURSTS[1]].worked_off)]


async def _round(
    site: Installation,
    bare_port: int,
    measured: _Measured,
    *,
    wanted: _Burst,
    numbers: "itertools.count[int]",
) -> None:
    requests = _requests(wanted, numbers)
    begun = time.perf_counter()
    measured.ours.append(await burst(site.port, requests, connections=wanted.connections))
    await inbox_empty(site)
    measured.worked_off.append(len(requests) / (time.perf_counter() - begun))
    measured.bare.append(await burst(bare_port, requests, connections=wanted.connections))


def _requests(wanted: _Burst, numbers: "itertools.count[int]") -> list[bytes]:
    """Each a message of its own."""
    named = [
        (f"Ev{n:010}", f"{1_732_000_000 + n}.000100")
        for n in itertools.islice(numbers, wanted.count)
    ]
    if wanted.kind == "replies":
        return [reply(event, ts) for event, ts in named]
    return [mention(event, ts, text=request("true")) for event, ts in named]


def _figures(wanted: _Burst, measured: _Measured) -> list[Figure]:
    times, bare_times = (
        [1000 * x for load in loads for x in load.latencies]
        for loads in (measured.ours, measured.bare)
    )
    rates, bare_rates = ([x.per_second for x in xs] for xs in (measured.ours, measured.bare))
    several = wanted.connections > 1
    over = f"{wanted.kind}, {wanted.connections} connection" + "s" * several
    ours, bare = sample("webhook", times), sample("FastAPI route, HMAC only", bare_times)
    share = ratio(rates, bare_rates)
    shares = (at_least(f"≥ {SHARE:g} of the bare route's rate", share, SHARE),) if several else ()
    return [
        Figure(
            name=f"webhook → 200, {over}",
            unit="ms",
            ours=ours,
            baseline=bare,
            ratio=round(ours.p50 / bare.p50, 2),
            aims=(at_most(f"p99 ≤ {P99_MS:g} ms", ours.p99, P99_MS),),
            note=NOTES[wanted.kind],
        ),
        Figure(
            name=f"webhooks per second, {over}",
            unit="1/s",
            ours=sample("webhook, per round", rates),
            baseline=sample("FastAPI route, HMAC only, per round", bare_rates),
            ratio=share,
            aims=shares,
            note=NOTES[wanted.kind],
        ),
    ]


def _drain(rates: Sequence[float]) -> Figure:
    return Figure(
        name="mentions per second, worked off",
        unit="1/s",
        ours=sample("from the first webhook of a burst to an empty inbox, per round", rates),
        note="policy decided, task, audit and replies written",
    )
