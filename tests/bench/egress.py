"""Through the gateway, beside a bridge without one, Squid and mitmproxy: bulk, small requests, a request's latency."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from runner.images.build import ensure_image
from tests.bench.egress_ways import (
    ORIGIN,
    SPLICED,
    Ask,
    bridged,
    mitmdump,
    mitmproxy,
    origin,
    sandboxed,
    squid,
    squid_program,
)
from tests.bench.figures import Aim, Figure, at_least, at_most, ratio, sample

ROUNDS = 3
BULK = ("bulk", str(128 << 20))
SMALL = ("small", "2", "8")
LATENCY = ("latency", "1000")
SPLICE_RATIO, INSPECT_RATIO, TIMES_MITMPROXY, LATENCY_MS = 0.6, 0.25, 10, 0.3
DIRECT = "bridge without a gateway"
SPLICE, INSPECT = "gateway, splice", "gateway, inspect"
SQUID_SPLICE, SQUID_BUMP, MITMPROXY = "Squid, splice", "Squid, bump", "mitmproxy, intercept"
Taken = Mapping[str, list[float]]


async def measure(root: Path, console: Console) -> list[Figure]:
    image = await asyncio.to_thread(ensure_image, progress=lambda _line: None)
    await asyncio.to_thread(_readable, root)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(origin(root))
        ours = await stack.enter_async_context(sandboxed(root, image, served))
        ca = root / f"{ORIGIN}.pem"
        ways: dict[str, Ask] = {DIRECT: bridged(image, served, way=("", "direct"))}
        ways |= {SPLICE: ours(SPLICED), INSPECT: ours(ORIGIN)}
        program = squid_program()
        if program is None:
            console.log("egress: without Squid (Debian's package squid-openssl is not installed)")
        for name, mode in ((SQUID_SPLICE, "splice"), (SQUID_BUMP, "inspect")) if program else ():
            place = await stack.enter_async_context(
                squid(root, served, ca, program=program or "", mode=mode)
            )
            ways[name] = bridged(image, served, way=(place, "connect"))
        place = await stack.enter_async_context(mitmproxy(root, served, await mitmdump()))
        ways[MITMPROXY] = bridged(image, served, way=(place, "connect"))
        bulk = await _taken(ways, BULK, console)
        small = await _taken(ways, SMALL, console)
        latency = await _taken(ways, LATENCY, console)
    return [*_bulk(bulk), *_small(small), *_latency(latency)]


async def _taken(ways: Mapping[str, Ask], words: tuple[str, ...], console: Console) -> Taken:
    """All ways in each round, so that what slows the machine slows them all."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, ask in ways.items():
            value = await ask(*words)
            if number:
                taken[name].append(value)
        said = {name: round(values[-1], 2) for name, values in taken.items() if values}
        console.log(f"egress: {words[0]} {number} of {ROUNDS}: {said}")
    return taken


def _bulk(taken: Taken) -> list[Figure]:
    wanted = {SPLICE: SPLICE_RATIO, INSPECT: INSPECT_RATIO}
    return [
        _rate(taken, name, what="bulk download", unit="MB/s", least=wanted.get(name))
        for name in taken
        if name != DIRECT
    ]


def _small(taken: Taken) -> list[Figure]:
    times = ratio(taken[INSPECT], taken[MITMPROXY])
    aim = at_least(f"≥ {TIMES_MITMPROXY} x mitmproxy", times, TIMES_MITMPROXY)
    return [
        _rate(
            taken, name, what="small requests", unit="1/s", aims=(aim,) if name == INSPECT else ()
        )
        for name in taken
        if name != DIRECT
    ]


def _rate(
    taken: Taken, name: str, *, what: str, unit: str, least: float | None = None, aims: tuple[Aim, ...] = ()
) -> Figure:  # fmt: skip
    found = ratio(taken[name], taken[DIRECT])
    if least is not None:
        aims = (*aims, at_least(f"≥ {least:g} x {DIRECT}", found, least))
    return Figure(
        name=f"{what}: {name}",
        unit="MB/s" if unit == "MB/s" else "1/s",
        ours=sample(name, taken[name]),
        baseline=sample(DIRECT, taken[DIRECT]),
        ratio=found,
        aims=aims,
    )


def _latency(taken: Taken) -> list[Figure]:
    direct = sample(DIRECT, taken[DIRECT])
    figures = []
    for name in taken:
        if name == DIRECT:
            continue
        ours = sample(name, taken[name])
        added = ours.p50 - direct.p50
        aims = (at_most(f"adds ≤ {LATENCY_MS} ms", added, LATENCY_MS),) if name == INSPECT else ()
        figures.append(
            Figure(
                name=f"kept-alive request: {name}",
                unit="ms",
                ours=ours,
                baseline=direct,
                ratio=round(ours.p50 / direct.p50, 2),
                aims=aims,
                note="medians of a thousand requests, one for each round",
            )
        )
    return figures


def _readable(root: Path) -> None:
    """Containers and Squid read in there."""
    root.mkdir()
    for folder in (root, root.parent):
        folder.chmod(0o755)
