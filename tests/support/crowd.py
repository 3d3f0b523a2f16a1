"""Many sandboxes at once: what each sees, and what one of them costs in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import docker

from runner.docker.backend import DockerBackend
from runner.docker.sandbox import DockerSandbox
from runner.sandbox import Role
from tests.adversarial.canaries import HttpCanary, Secret
from tests.support.docker_host import make_mirror
from tests.support.sandboxes import a_spec, line

STARTING_AT_ONCE: Final = 6
_SEEN: Final = """
set -e; for f in /workspace /tmp /home/agent; do echo x > $f/marker-$1; done
ls -d /workspace/marker-* /tmp/marker-* /home/agent/marker-* | wc -l
git --git-dir=/mirror rev-parse main
curl -s -o /dev/null -w '%{http_code}\n' http://canary.internal/ok
curl -s -o /dev/null -w '%{http_code}\n' http://git.internal/acme/$2.git/info/refs?service=git-upload-pack
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    number: int
    sandbox: DockerSandbox
    base: str
    secret: Secret


@asynccontextmanager
async def crowd(
    count: int, *, backend: DockerBackend, installation: str, image: str, where: Path, canary: HttpCanary, host: str
) -> AsyncIterator[Sequence[Member]]:  # fmt: skip
    """Each with a repository and a credential of its own; all are up when this is entered."""
    members = [
        _member(number, backend=backend, installation=installation, image=image, where=where)
        for number in range(count)
    ]
    places = asyncio.Semaphore(STARTING_AT_ONCE)

    async def start(member: Member) -> None:
        async with places:
            await member.sandbox.ensure()
            policy = _policy(member, upstream=f"http://{host}:{canary.port}")
            await member.sandbox.send("gateway", key="policy", to="init", msg=policy)
            for role in ("gateway", "acceptor"):
                await line(member.sandbox, role, kind="ready")

    async def remove(member: Member) -> None:
        async with places:
            await member.sandbox.remove()

    try:
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(start(member))
        yield members
    finally:
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(remove(member))


def _member(number: int, *, backend: DockerBackend, installation: str, image: str, where: Path) -> Member:  # fmt: skip
    folder = where / f"m{number}"
    folder.mkdir()
    mirror, base = make_mirror(folder, said=f"Begin {number}")
    spec = a_spec(
        installation=installation,
        image=image,
        mirror=mirror,
        task=f"{installation[-6:]}-{number}",
        memory_mib=256,
    )
    return Member(number=number, sandbox=backend.open(spec), base=base, secret=Secret())


def _policy(member: Member, *, upstream: str) -> dict[str, Any]:
    canary = {
        "kind": "http", "name": "canary", "upstream": upstream, "private": True, "secret": member.secret.value,
        "header": "x-api-key", "scheme": "", "user": "", "requests": [{"methods": ["GET"], "paths": ["/ok"]}],
    }  # fmt: skip
    target = {"repo": f"acme/web{member.number}", "branch": "errand/x", "base": member.base}
    return {"do": "policy", "egress": [], "publish": {}, "connections": [canary], **target}


async def seen(member: Member, *, neighbour: int) -> list[str]:
    """Its own markers, its own commit, what the canary and a neighbour's repository answer."""
    words = ["sh", "-c", _SEEN, "sh", str(member.number), f"web{neighbour}"]
    message = {"do": "exec", "argv": words, "cwd": "/", "timeout": 60}
    await member.sandbox.send("agent", key="look", to="init", msg=message)
    ended = await line(member.sandbox, "agent", kind="exit", key="look")
    return str(ended.model_dump()["tail"]).split()


async def overhead_mib(member: Member, roles: Sequence[Role] = ("gateway", "acceptor")) -> float:
    """Memory of the containers around the agent, with Docker's shims: what is shared counts in parts."""
    total = 0
    for role in roles:
        found = await member.sandbox._inspect(role)
        name, first = member.sandbox._names[role], int(found["State"]["Pid"])
        pids = await member.sandbox._engine.running(partial(processes, name=name))
        total += await asyncio.to_thread(pss_kib, [*pids, parent(first)])
    return total / 1024


def processes(api: docker.APIClient, *, name: str) -> set[int]:
    return {int(row[0]) for row in api.top(name, ps_args="-eo pid")["Processes"]}


def pss_kib(pids: Sequence[int]) -> int:
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += next(int(found.split()[1]) for found in text.splitlines() if found[:4] == "Pss:")
    return total


def parent(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(found.split()[1] for found in fields if found.startswith("PPid:")))


def told(secret: Secret, canary: HttpCanary) -> int:
    """How often the canary got it."""
    return json.dumps([hit.head.decode("latin-1") for hit in canary.hits]).count(secret.value)
