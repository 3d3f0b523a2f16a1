"""Fifty sandboxes at once: memory of what is around each agent, what each of them sees, and that all are gone after."""

import asyncio
import time
import uuid
from pathlib import Path

from rich.console import Console

from runner.docker.backend import DockerBackend
from runner.images.build import ensure_image
from tests.adversarial.canaries import http_canary
from tests.bench.figures import Figure, at_least, at_most, sample
from tests.support import crowd
from tests.support.docker_host import labelled
from tests.support.messages_api import bridge_address

COUNT = 50
MOST_MIB = 80


async def measure(root: Path, console: Console) -> list[Figure]:
    image = await asyncio.to_thread(ensure_image, progress=lambda _line: None)
    host, installation = bridge_address(), f"bench-{uuid.uuid4().hex[:12]}"
    await asyncio.to_thread(_readable, root)
    backend = DockerBackend()
    with http_canary(host) as canary:
        begun = time.perf_counter()
        async with crowd.crowd(
            COUNT, backend=backend, installation=installation, image=image, where=root, canary=canary, host=host
        ) as members:  # fmt: skip
            console.log(f"density: {COUNT} up after {time.perf_counter() - begun:.0f} s")
            apart, sizes = 0, []
            for member in members:
                found = await crowd.seen(member, neighbour=(member.number + 1) % COUNT)
                whole = found == ["3", member.base, "200", "403"]
                apart += whole and crowd.told(member.secret, canary) == 1
                sizes.append(await crowd.overhead_mib(member))
            engine = members[0].sandbox._engine
            pairs = len(members)
        left = await engine.running(lambda api: labelled(api, installation))
    backend.close()
    console.log(f"density: {apart} of {pairs} see only their own, {len(left)} left")
    what = "gateway, acceptor and their shims, PSS"
    return [
        Figure(
            name=f"memory around an agent, {COUNT} sandboxes at once",
            unit="MiB",
            ours=sample(what, sizes),
            aims=(
                at_most(f"each ≤ {MOST_MIB} MiB", max(sizes), MOST_MIB),
                at_least("each sees only its own repository, credential and files", apart, COUNT),
                at_most("left when they are removed", len(left), 0),
            ),
        )
    ]


def _readable(root: Path) -> None:
    """Containers read mirrors in there."""
    root.mkdir()
    for folder in (root, root.parent):
        folder.chmod(0o755)
