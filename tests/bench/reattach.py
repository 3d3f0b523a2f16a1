"""kill -9 of `errand work`: until the next one follows the container that went on meanwhile."""

import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from redis.asyncio import Redis
from rich.console import Console

from runner import keys
from runner.protocol import EventRecord
from tests.bench.figures import Figure, at_most, sample
from tests.bench.start import ask, working
from tests.support.installation import ROOT, Installation, until

ROUNDS = 8
APART_SECONDS = 1.2
"""An agent tells of what a command says once a second: something new is to be told when the next worker comes."""
LIMIT_MS = 1000.0
COUNT = "for n in $(seq 1 2400); do echo line-$n; sleep 0.05; done"


async def measure(root: Path, console: Console) -> list[Figure]:
    """One run, whose worker is killed again and again; beside it, what the interpreter takes to import our code."""
    whole, ready, imports = [], [], []
    async with working(root) as (slack, site), Redis.from_url(_redis(site)) as redis:
        await ask(slack, site, 1, recipe=COUNT)
        await _at_work(site)
        for number in range(ROUNDS):
            site.kill("work")
            killed = datetime.now(UTC)
            imports.append(await _imports(site))
            await asyncio.sleep(max(0.0, APART_SECONDS - imports[-1] / 1000))
            took, after = await _back(site, redis, killed=killed)
            whole.append(took)
            ready.append(after)
            console.log(
                f"re-attach: {number + 1} of {ROUNDS}: {took:.0f} ms, {after:.0f} after it was ready"
            )
            await _at_work(site)
    return [
        _figure("killed worker → next one follows, from process start", whole, imports),
        _figure("killed worker → next one follows, from `working`", ready, None),
    ]


def _figure(name: str, values: list[float], imports: list[float] | None) -> Figure:
    ours = sample(name, values)
    baseline = sample("interpreter and imports of `errand work`", imports) if imports else None
    return Figure(
        name=name,
        unit="ms",
        ours=ours,
        baseline=baseline,
        ratio=round(ours.p50 / baseline.p50, 2) if baseline else None,
        aims=(at_most(f"median ≤ {LIMIT_MS:g} ms", ours.p50, LIMIT_MS),),
        note="until the first event on the bus of something that the container did after the kill",
    )


def _redis(site: Installation) -> str:
    return f"unix://{(site.data / 'valkey' / 'valkey.sock').resolve()}"


async def _back(site: Installation, redis: Redis, *, killed: datetime) -> tuple[float, float]:
    """Milliseconds since the process was started, and since it said that it was working."""
    position = (await redis.xinfo_stream(keys.EVENTS))["last-generated-id"]
    begun = time.time()
    site.start("work")
    while True:
        answer = await redis.xread({keys.EVENTS: position}, block=30_000)
        arrived = time.time()
        if not answer:
            raise TimeoutError("the container is not followed again")
        for entry_id, fields in answer[0][1]:
            position = entry_id
            record = EventRecord.model_validate_json(fields[b"r"])
            if record.source == "agent" and record.at > killed:
                return 1000 * (arrived - begun), 1000 * (arrived - _working_since(site))


def _working_since(site: Installation) -> float:
    """When the newest worker was through with its imports, Docker's images and Redis."""
    lines = (site.root / "work.log").read_text().splitlines()
    newest = next(line for line in reversed(lines) if '"event": "working"' in line)
    return datetime.fromisoformat(json.loads(newest)["timestamp"]).timestamp()


async def _imports(site: Installation) -> float:
    """Until the interpreter has everything that `errand work` imports; how it ends does not count."""
    argv = [sys.executable, "-c", "import bot.__main__, bot.cli.work, time; print(time.time())"]
    begun = time.time()
    done = await asyncio.to_thread(
        subprocess.run, argv, cwd=ROOT, env=site.environment, check=True, capture_output=True
    )
    return 1000 * (float(done.stdout) - begun)


async def _at_work(site: Installation) -> None:
    """Some of what the agent does has come through since now."""
    now = datetime.now(UTC)

    async def look() -> bool:
        return any(e.record.source == "agent" and e.record.at > now for e in await site.events())

    await until(look, seconds=60, what="the agent is at work")
