"""One way to play with a sandbox, whether it is in memory or real."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from runner.docker import spec as specs
from runner.docker.backend import DockerBackend
from runner.docker.containers import make_volume
from runner.protocol import RunKey, RunLimits
from runner.sandbox import Line, Role, Sandbox, SandboxBackend, SandboxSpec
from runner.testing import End, MemoryBackend, Step

SECONDS = 20
END_INIT = {"do": "exec", "argv": ["sh", "-c", "kill -TERM 1"], "cwd": "/", "timeout": 5}
SAY_HI = {"do": "exec", "argv": ["echo", "hi"], "cwd": "/", "timeout": 5}
BRANCH = "errand/t1-hello"


class Rig(Protocol):
    """What differs between the implementations under test."""

    @property
    def backend(self) -> SandboxBackend: ...

    @property
    def installation(self) -> str: ...

    @property
    def base(self) -> str:
        """The commit that the agent's branch begins at."""

    def spec(self, *, task: str | None = None, memory_mib: int = 256) -> SandboxSpec: ...

    async def create(self, spec: SandboxSpec, roles: Iterable[Role]) -> None:
        """What a crash in `ensure` leaves: containers that were never started."""

    async def push(self, sandbox: Sandbox, spec: SandboxSpec) -> None:
        """Let the agent push one commit to its branch."""


def a_spec(
    *, installation: str, image: str, mirror: Path, task: str | None, memory_mib: int
) -> SandboxSpec:
    return SandboxSpec(
        installation=installation,
        host="here",
        run=RunKey(task=task or uuid.uuid4().hex[:12], fence=1),
        image=image,
        mirror=mirror,
        limits=RunLimits(memory_mib=memory_mib),
    )


def like_init(key: str, to: str, msg: Mapping[str, Any]) -> Iterable[Step]:
    """The commands of this file, as the real program answers them."""
    if to != "init":
        return
    if msg == SAY_HI:
        yield {"kind": "output", "key": key, "text": "hi\n"}
    if msg == END_INIT:
        yield End(143)
    yield {"kind": "exit", "key": key, "status": 0, "tail": "hi\n"}


class MemoryRig:
    def __init__(self) -> None:
        self.memory = MemoryBackend({"agent": like_init}, images=["default"])
        self.backend: SandboxBackend = self.memory
        self.installation = "test"
        self.base = "0" * 40

    def spec(self, *, task: str | None = None, memory_mib: int = 256) -> SandboxSpec:
        return a_spec(
            installation=self.installation,
            image="default",
            mirror=Path("/mirror"),
            task=task,
            memory_mib=memory_mib,
        )

    async def create(self, spec: SandboxSpec, roles: Iterable[Role]) -> None:
        self.memory.create(spec, roles)

    async def push(self, sandbox: Sandbox, spec: SandboxSpec) -> None:
        self.memory.bundles[spec.run] = b"# v2 git bundle\n"


@dataclass(kw_only=True)
class DockerRig:
    backend: DockerBackend
    installation: str
    image: str
    mirror: Path
    base: str

    def spec(self, *, task: str | None = None, memory_mib: int = 256) -> SandboxSpec:
        return a_spec(
            installation=self.installation,
            image=self.image,
            mirror=self.mirror,
            task=task,
            memory_mib=memory_mib,
        )

    async def create(self, spec: SandboxSpec, roles: Iterable[Role]) -> None:
        sandbox = self.backend.open(spec)
        engine = sandbox._engine
        for body in specs.volume_bodies(spec, version="earlier"):
            await engine.starting(partial(make_volume, body=body))
        wanted = specs.acceptor(spec, image=self.image, version="earlier")
        acceptor = await sandbox._make(wanted)
        for role in roles:
            if role == "gateway":
                await sandbox._make(specs.gateway(spec, image=self.image, version="earlier"))
            if role == "agent":
                await sandbox._make(specs.agent(spec, version="earlier", acceptor_id=acceptor.id))

    async def push(self, sandbox: Sandbox, spec: SandboxSpec) -> None:
        policy = {"do": "policy", "egress": [], "publish": {}, "repo": "acme/web"}
        policy |= {"branch": BRANCH, "base": self.base}
        await sandbox.send("gateway", key="policy", to="init", msg=policy)
        assert (await line(sandbox, "gateway", kind="ready")).n == 1
        script = (
            "git clone --quiet --shared /mirror /workspace/web\n"
            "cd /workspace/web\n"
            "git config user.name dana; git config user.email dana@acme.test\n"
            "echo hello > hello.txt; git add hello.txt; git commit --quiet -m 'Say hello'\n"
            f"git push http://git.internal/acme/web.git HEAD:refs/heads/{BRANCH}\n"
        )
        message = {"do": "exec", "argv": ["sh", "-euxc", script], "timeout": 15}
        await sandbox.send("agent", key="push", to="init", msg=message)
        ended = await line(sandbox, "agent", kind="exit", key="push")
        assert ended.model_dump()["status"] == 0, ended


async def line(sandbox: Sandbox, role: Role, **wanted: object) -> Line:
    """The first line of a transcript with these fields; waits for it."""
    async with asyncio.timeout(SECONDS), aclosing(_follow(sandbox, role)) as lines:
        async for found in lines:
            fields = found.model_dump()
            if all(fields.get(name) == value for name, value in wanted.items()):
                return found
    raise AssertionError(f"the {role} ended without {wanted}")


async def whole(sandbox: Sandbox, role: Role) -> list[Line]:
    """The transcript of a container that ends."""
    async with asyncio.timeout(SECONDS):
        return [found async for found in sandbox.follow(role)]


async def _follow(sandbox: Sandbox, role: Role) -> AsyncGenerator[Line, None]:
    async for found in sandbox.follow(role):
        yield found
