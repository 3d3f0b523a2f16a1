"""From a queued run to the agent's first prompt, beside a bare `docker run` of the same image."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rich.console import Console

from bot.states import TERMINAL
from bot.store.rows import RunRow
from runner.images.build import ensure_image
from tests.bench.figures import Figure, Sample, at_most, sample
from tests.bench.load import burst, mention
from tests.bench.site import CHANNEL, PERSON, installed, request
from tests.support.installation import Installation, until
from tests.support.slack_api import SlackApi, slack_api

RUNS = 20
WARM_UP = 2
TIMES, MORE_MS = 1.5, 300.0
"""As many bare `docker run`s, and so much more."""


async def measure(root: Path, console: Console) -> list[Figure]:
    """In turns: a bare `docker run`, then a whole run of ours."""
    image = await asyncio.to_thread(ensure_image, progress=lambda _line: None)
    ours, bare, steps = [], [], []
    async with working(root) as (slack, site):
        for number in range(RUNS + WARM_UP):
            bare.append(await docker_run(image, name=f"errand-{site.label}-{number}"))
            run = await _errand(slack, site, number)
            seen = _moments(site, run)
            ours.append(1000 * (seen["prompt"] - run.queued_at.timestamp()))
            steps.append(
                {k: round(1000 * (at - run.queued_at.timestamp())) for k, at in seen.items()}
            )
            console.log(
                f"start: {number + 1} of {RUNS + WARM_UP}: {steps[-1]}, bare {bare[-1]:.0f}"
            )
    mine = sample("queued → first prompt", ours[WARM_UP:])
    other = sample("docker run --network none IMAGE true", bare[WARM_UP:])
    return [_figure(mine, other)]


def _figure(ours: Sample, bare: Sample) -> Figure:
    limit = TIMES * bare.p50 + MORE_MS
    text = f"median ≤ {TIMES:g} x bare + {MORE_MS:g} ms"
    return Figure(
        name="queued → first prompt",
        unit="ms",
        ours=ours,
        baseline=bare,
        ratio=round(ours.p50 / bare.p50, 2),
        aims=(at_most(text, ours.p50, limit),),
        note="three containers, mirror, workspace, agent; from the run row's queued_at to the "
        "session/prompt in the container's transcript",
    )


@contextlib.asynccontextmanager
async def working(root: Path) -> AsyncIterator[tuple[SlackApi, Installation]]:
    """Slack, `serve` and `work`."""
    async with slack_api() as slack, installed(root, slack_url=slack.url) as site:
        slack.people = {PERSON: ("dana", "Dana")}
        await site.up()
        yield slack, site


async def ask(slack: SlackApi, site: Installation, number: int, *, recipe: str) -> str:
    """Mention the bot; gives the thread."""
    text = request(recipe)
    thread = slack.say(CHANNEL, text)
    await burst(site.port, [mention(f"EvRun{number:05}", thread, text=text)], connections=1)
    return thread


async def docker_run(image: str, *, name: str) -> float:
    """Milliseconds until it has ended; it is removed after."""
    argv = ("docker", "run", "--name", name, "--network", "none", "--entrypoint", "true", image)
    begun = time.perf_counter()
    await _docker(*argv)
    taken = 1000 * (time.perf_counter() - begun)
    await _docker("docker", "rm", "--force", name)
    return taken


async def _docker(*argv: str) -> None:
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=nowhere)
    if await process.wait():
        raise ChildProcessError(argv)


async def _errand(slack: SlackApi, site: Installation, number: int) -> RunRow:
    """A whole run, to its end and cleaned up; its row."""
    thread = await ask(slack, site, number, recipe="true")

    async def ended() -> RunRow | None:
        task = next((t for t in await site.tasks() if t.conversation.thread == thread), None)
        if task is None or task.state not in TERMINAL:
            return None
        return next(run for run in await site.runs() if run.task == task.id)

    run = await until(ended, seconds=60, what="the run has ended")
    await site.cleaned_up()
    return run


def _moments(site: Installation, run: RunRow) -> dict[str, float]:
    """When what was first seen in the agent's container, by the clock that they all share."""
    path = site.data / "transcripts" / f"{run.task}-{run.fence}.jsonl.gz"
    moments: dict[str, float] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            record = json.loads(line)
            if record["role"] == "agent" and (name := _moment(record)):
                moments.setdefault(name, record["at"])
    return moments


def _moment(record: dict[str, Any]) -> str:
    if record["kind"] in {"ready", "agent_exit"}:
        return str(record["kind"])
    if record["kind"] == "exit":
        return f"exit {record['key']}"
    if record["kind"] != "received":
        return ""
    method = (record.get("msg") or {}).get("method", "")
    return "prompt" if method == "session/prompt" else f"received {record['key']}"
