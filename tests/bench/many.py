"""A hundred errands at work at once, as real processes and containers: what one of them takes of the machine's memory."""

import asyncio
import time
from pathlib import Path

import docker
from rich.console import Console

from bot.states import TaskState
from bot.store import tasks
from tests.bench.figures import Figure, at_least, at_most, sample
from tests.bench.load import burst, mention
from tests.bench.site import CHANNEL, PERSON, POLICY, installed, request
from tests.support.crowd import parent, processes, pss_kib
from tests.support.installation import Installation, until
from tests.support.slack_api import slack_api

COUNT = 100
MOST_MIB = 90.0
BEGIN_SECONDS = 900
_FEW = "tasks: 4, tasks_per_person: 4,\n  tasks_per_repo: 4"
_MANY = f"tasks: {COUNT}, tasks_per_person: {COUNT}, tasks_per_repo: {COUNT}"


async def measure(root: Path, console: Console) -> list[Figure]:
    policy, settings = POLICY.replace(_FEW, _MANY), {"ERRAND_WORK__SLOTS": str(COUNT)}
    async with (
        slack_api() as slack,
        installed(root, slack_url=slack.url, policy=policy, settings=settings) as site,
    ):
        slack.people = {PERSON: ("dana", "Dana")}
        await site.up()
        begun = time.perf_counter()
        text = request("sleep 3600")
        asked = [
            mention(f"EvMany{n:05}", slack.say(CHANNEL, text), text=text) for n in range(COUNT)
        ]
        await burst(site.port, asked, connections=4)
        await until(lambda: _at_work(site), seconds=BEGIN_SECONDS, what="all are at work")
        console.log(f"many: {COUNT} at work after {time.perf_counter() - begun:.0f} s")
        around = await asyncio.to_thread(_around, site)
        ours = {name: pss_kib([site.processes[name].pid]) / 1024 for name in site.processes}
        alive = await _alive(site)
    share = sum(ours.values()) / COUNT
    each = sample(
        "both containers around the agent, shims, its init; and a share of our processes",
        [mib + share for mib in around],
    )
    told = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in sorted(ours.items()))
    return [
        Figure(
            name=f"memory of a running errand besides its agent, {COUNT} at once",
            unit="MiB",
            ours=each,
            aims=(
                at_most(f"each ≤ {MOST_MIB:g} MiB", each.most, MOST_MIB),
                at_least("at work when it was measured", alive, COUNT),
            ),
            note=f"pages that are shared count in parts; in all {told}",
        )
    ]


async def _alive(site: Installation) -> int:
    async with site.store() as store, store.read() as conn:
        return len(await tasks.in_states(conn, {TaskState.RUNNING}))


async def _at_work(site: Installation) -> bool:
    """The agent of each has begun with its recipe."""
    async with site.store() as store, store.read() as conn:
        rows = await tasks.in_states(conn, {TaskState.RUNNING})
    return len(rows) == COUNT and len(site.containers(role="agent")) == COUNT


def _around(site: Installation) -> list[float]:
    """MiB of each errand: whole containers beside the agent's, of its own only the first process and the shim."""
    sizes: dict[str, float] = {}
    api = docker.from_env().api
    found = api.containers(filters={"label": [f"errand.installation={site.label}"]})
    for container in found:
        name, task = container["Id"], container["Labels"]["errand.task"]
        first = int(api.inspect_container(name)["State"]["Pid"])
        inside = (
            {first} if container["Labels"]["errand.role"] == "agent" else processes(api, name=name)
        )
        sizes[task] = sizes.get(task, 0.0) + pss_kib([*inside, parent(first)]) / 1024
    api.close()
    return list(sizes.values())
