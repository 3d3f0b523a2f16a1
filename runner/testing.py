"""A sandbox backend in memory, for tests: it keeps the port's promises and plays scripted containers.

The backend stands for the Docker daemon: handles opened twice, or by another worker, see the same containers.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runner.errors import (
    SandboxAwayError,
    SandboxDiffersError,
    SandboxLostError,
    SandboxStartError,
)
from runner.protocol import RunKey
from runner.sandbox import Leftover, Line, Role, SandboxSpec

ROLES: Final[tuple[Role, ...]] = ("acceptor", "gateway", "agent")
EPOCH: Final = 1_763_640_000.0


@dataclass(frozen=True, slots=True)
class End:
    """In a script: the container ends here."""

    status: int = 0


Step = Mapping[str, Any] | End
"""A line without `n` and `at`, or the end."""
Reaction = Callable[[str, str, Mapping[str, Any]], Iterable[Step]]
"""Answers an accepted line: called with key, to, msg."""
Script = Sequence[Step] | Reaction
"""Steps that are played after `ready`, or a reaction to what is sent."""


def obedient(key: str, to: str, msg: Mapping[str, Any]) -> Iterable[Step]:
    """Every command succeeds without output; everything else is only received."""
    if to == "init" and msg.get("do") == "exec":
        yield {"kind": "exit", "key": key, "status": 0, "tail": ""}


@dataclass(slots=True, kw_only=True)
class _Container:
    role: Role
    script: Script
    running: bool = False
    status: int | None = None
    gone: bool = False
    lines: list[Line] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        if self.running or self.status is not None:
            return
        self.running = True
        if self.role != "gateway":
            self.open()

    def open(self) -> None:
        """The gateway is ready when it has a policy, the others when they have started."""
        self.play([{"kind": "ready"}])
        if not callable(self.script):
            self.play(self.script)

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if not self.running:
                return
            if isinstance(step, End):
                self.end(step.status)
                continue
            n = len(self.lines) + 1
            self.lines.append(Line.model_validate({"n": n, "at": EPOCH + n, **step}))
            if step["kind"] == "fatal":
                self.end(1)
        self.wake()

    def accept(self, key: str, to: str, msg: Mapping[str, Any]) -> None:
        if key in self.keys:
            return
        self.keys.add(key)
        if self.role == "gateway":
            if not self.lines:
                self.open()
            self.play([{"kind": "received", "key": key}])
        else:
            self.play([{"kind": "received", "key": key, "msg": msg}])
        if callable(self.script):
            self.play(self.script(key, to, msg))

    def end(self, status: int) -> None:
        self.running, self.status = False, status
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(slots=True, kw_only=True)
class _Trio:
    spec: SandboxSpec
    containers: dict[Role, _Container] = field(default_factory=dict)


class MemoryBackend:
    """Plays `scripts`; a role without one is `obedient`."""

    def __init__(
        self,
        scripts: Mapping[Role, Script] | None = None,
        *,
        images: Iterable[str] | None = None,
    ) -> None:
        self.scripts: dict[Role, Script] = dict(scripts or {})
        self.images = None if images is None else frozenset(images)
        self.bundles: dict[RunKey, bytes] = {}
        """What was pushed to each run's quarantine."""
        self.problems: list[str] = []
        """What `check` answers."""
        self.labels: dict[str, str] = {}
        """What `registries` answers, by image."""
        self.start_failures: list[str] = []
        """Each one lets the next `ensure` fail with this reason."""
        self.sent: list[tuple[RunKey, Role, str]] = []
        """Run, role and key of every `send`, repeated ones included."""
        self.away = False
        """Docker does not answer; its containers live on. Change it with `go_away` and `come_back`."""
        self.frozen: set[RunKey] = set()
        """Those that were set aside."""
        self.changed: set[RunKey] = set()
        """Those that run, and are not as they were made any more."""
        self._trios: dict[RunKey, _Trio] = {}

    def open(self, spec: SandboxSpec) -> "MemorySandbox":
        return MemorySandbox(self, spec)

    def go_away(self) -> None:
        """Whatever listens, hears of it."""
        self.away = True
        for trio in self._trios.values():
            for container in trio.containers.values():
                container.wake()

    def come_back(self) -> None:
        self.away = False

    def answer(self) -> None:
        """Raises SandboxAwayError while it is away."""
        if self.away:
            raise SandboxAwayError("Docker does not answer")

    async def leftovers(self, *, installation: str, host: str | None = None) -> list[Leftover]:
        self.answer()
        return [
            Leftover(
                run=run,
                host=trio.spec.host,
                containers=tuple(f"errand-{run.task}-{run.fence}-{r}" for r in trio.containers),
            )
            for run, trio in sorted(self._trios.items(), key=lambda item: str(item[0]))
            if trio.spec.installation == installation
            and host in {None, trio.spec.host}
            and run not in self.frozen
        ]

    async def discard(self, leftover: Leftover) -> None:
        self.lose(leftover.run)

    async def set_aside(self, leftover: Leftover) -> None:
        self.frozen.add(leftover.run)

    async def aside(self, *, installation: str) -> list[Leftover]:
        return [
            Leftover(
                run=run,
                host=self._trios[run].spec.host,
                containers=tuple(f"aside-errand-{run.task}-{run.fence}-{r}" for r in ROLES),
            )
            for run in sorted(self.frozen, key=str)
            if self._trios[run].spec.installation == installation
        ]

    async def registries(self, image: str) -> str:
        return self.labels.get(image, "")

    async def check(self) -> list[str]:
        return list(self.problems)

    async def remarks(self) -> list[str]:
        return []

    def create(self, spec: SandboxSpec, roles: Iterable[Role] = ROLES) -> None:
        """Containers that are made and not started, as a crash in `ensure` leaves them."""
        trio = self._trios.setdefault(spec.run, _Trio(spec=spec))
        for role in roles:
            if role not in trio.containers:
                script = self.scripts.get(role, obedient)
                trio.containers[role] = _Container(role=role, script=script)

    def emit(self, run: RunKey, role: Role, *steps: Step) -> None:
        """Lines that a container writes of its own accord."""
        self.container(run, role).play(steps)

    def lose(self, run: RunKey) -> None:
        """The containers vanish, as with a host that was cleaned up."""
        self.frozen.discard(run)
        trio = self._trios.pop(run, None)
        for container in trio.containers.values() if trio else ():
            container.gone = True
            container.end(137)

    def container(self, run: RunKey, role: Role) -> _Container:
        self.answer()
        trio = self._trios.get(run)
        if trio is None or role not in trio.containers:
            raise SandboxLostError(f"there is no {role} container of run {run}")
        return trio.containers[role]

    def start_all(self, spec: SandboxSpec) -> None:
        self.answer()
        if self.start_failures:
            raise SandboxStartError(self.start_failures.pop(0))
        if self.images is not None and spec.image not in self.images:
            raise SandboxStartError(f"there is no image {spec.image}")
        self.create(spec)
        trio = self._trios[spec.run]
        if spec.run in self.changed:
            raise SandboxDiffersError(f"run {spec.run} is not as it was made")
        for role in ROLES:
            trio.containers[role].start()


class MemorySandbox:
    def __init__(self, backend: MemoryBackend, spec: SandboxSpec) -> None:
        self.spec = spec
        self._backend = backend

    async def ensure(self) -> None:
        self._backend.start_all(self.spec)

    async def image_digest(self) -> str:
        self._container("agent")
        return f"sha256:{self.spec.image}"

    async def follow(self, role: Role) -> AsyncIterator[Line]:
        container, read = self._container(role), 0
        while True:
            self._backend.answer()
            changed = container.changed
            for line in container.lines[read:]:
                read += 1
                yield line
            if read < len(container.lines):
                continue
            if container.gone or not container.running:
                return
            await changed.wait()

    async def send(self, role: Role, *, key: str, to: str, msg: Mapping[str, Any]) -> None:
        container = self._container(role)
        if not container.running:
            raise SandboxLostError(f"the {role} container of run {self.spec.run} does not run")
        self._backend.sent.append((self.spec.run, role, key))
        container.accept(key, to, json.loads(json.dumps(msg)))

    async def bundle(self, *, base: str, branch: str) -> AsyncIterator[bytes]:
        self._container("gateway")
        content = self._backend.bundles.get(self.spec.run)
        if content is None:
            raise SandboxLostError(f"nothing was pushed in run {self.spec.run}")
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    async def exit_status(self, role: Role) -> int | None:
        return self._container(role).status

    async def remove(self) -> None:
        self._backend.lose(self.spec.run)

    def _container(self, role: Role) -> _Container:
        return self._backend.container(self.spec.run, role)
