"""One run's three containers on a Docker host."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

import docker
import structlog
from docker.errors import APIError, NotFound

from runner.docker import spec as specs
from runner.docker.containers import (
    Made,
    make_container,
    make_volume,
    remove_all,
    start_container,
)
from runner.docker.masks import Masks
from runner.docker.quarantine import BUNDLE_BYTES, BundleRun, bundle_command
from runner.docker.spec import ROLES, Wanted
from runner.docker.stdin import Inputs
from runner.docker.stream import Cancellable, Nothing, Stream, threaded
from runner.docker.transcript import Lines
from runner.engine import Engine, conflict, mapped
from runner.errors import SandboxDiffersError, SandboxLostError, SandboxStartError
from runner.sandbox import Line, Role, SandboxSpec

log = structlog.get_logger()

# A log stream that breaks off this often without a new line is not going to bring one.
_BREAKS: Final = 5


class DockerSandbox:
    """`image` is what acceptor and gateway run from; `version` marks who made the containers."""

    def __init__(
        self,
        spec: SandboxSpec,
        *,
        engine: Engine,
        inputs: Inputs,
        image: str,
        version: str,
        masks: Masks,
    ) -> None:
        self.spec = spec
        self._engine = engine
        self._image = image
        self._version = version
        self._masks = masks
        self._names = {role: specs.container_name(spec.run, role) for role in ROLES}
        self._inputs = inputs
        self._making = {role: threading.Lock() for role in ROLES}
        self._removing = False

    async def ensure(self) -> None:
        self._removing = False
        await self._engine.starting(self._make_volumes)
        # Threads can't be cancelled: both ends are awaited, whatever the other one did.
        results = await asyncio.gather(
            self._ensure_gateway(), self._ensure_inner(), return_exceptions=True
        )
        _raise_from(results)
        log.info("sandbox_up", task=self.spec.run.task, fence=self.spec.run.fence)

    async def image_digest(self) -> str:
        return str((await self._inspect("agent"))["Image"])

    async def follow(self, role: Role) -> AsyncIterator[Line]:
        read = breaks = 0
        while True:
            state, before = await self._state(role), read
            if state == "gone":
                if read == 0:
                    raise SandboxLostError(f"there is no container {self._names[role]}")
                return
            # Read once more after the end: a stream that broke off looks like one that is complete.
            async with aclosing(self._lines(role)) as lines:
                async for line in lines:
                    if line.n > read:
                        read = line.n
                        yield line
            if state == "ended":
                return
            breaks = 0 if read > before else breaks + 1
            if breaks > _BREAKS:
                raise SandboxLostError(f"the log of {self._names[role]} breaks off all the time")

    async def send(self, role: Role, *, key: str, to: str, msg: Mapping[str, Any]) -> None:
        record = {"key": key, "to": to, "msg": msg}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        name = self._names[role]
        await self._engine.running(lambda _api: self._inputs.write(name, line))

    async def bundle(self, *, base: str, branch: str) -> AsyncIterator[bytes]:
        command, name = bundle_command(base=base, branch=branch), self._names["gateway"]
        run = await self._engine.running(
            lambda api: BundleRun(api, container=name, command=command)
        )
        size = 0
        async with aclosing(threaded(run.start)) as pieces:
            async for piece, complaint in pieces:
                run.complain(complaint or b"")
                if piece and not size and not piece.startswith(b"# v"):
                    raise SandboxLostError("the bundle came without its beginning")
                size += len(piece or b"")
                if size > BUNDLE_BYTES:
                    raise SandboxLostError(f"the bundle has more than {BUNDLE_BYTES} bytes")
                if piece:
                    yield piece
        await self._engine.running(lambda _api: run.finish())
        if not size:
            raise SandboxLostError("the bundle came without its beginning")

    async def exit_status(self, role: Role) -> int | None:
        state = (await self._inspect(role))["State"]
        if state["Running"] or state["Status"] == "created":
            return None
        return int(state["ExitCode"])

    async def remove(self) -> None:
        self._removing = True
        await self._engine.running(self._remove)

    async def _ensure_gateway(self) -> None:
        wanted = specs.gateway(self.spec, image=self._image, version=self._version)
        made = await self._make(wanted)
        await self._start(made)

    async def _ensure_inner(self) -> None:
        """The acceptor starts while Docker makes the agent, which can only start after it."""
        wanted = specs.acceptor(self.spec, image=self._image, version=self._version)
        acceptor, masks = await asyncio.gather(
            self._make(wanted), self._engine.starting(self._mask), return_exceptions=True
        )
        if isinstance(acceptor, BaseException):
            raise acceptor
        if isinstance(masks, BaseException):
            raise masks
        wanted = specs.agent(self.spec, version=self._version, acceptor_id=acceptor.id, masks=masks)
        started, made = await asyncio.gather(
            self._start(acceptor), self._make(wanted), return_exceptions=True
        )
        _raise_from((started, made))
        if isinstance(made, Made):
            await self._start(made)

    def _mask(self, api: docker.APIClient) -> list[dict[str, Any]]:
        return self._masks.mounts(api, self.spec.image, self.spec.denied)

    async def _make(self, wanted: Wanted) -> Made:
        def make(api: docker.APIClient) -> Made:
            # A cancelled `ensure` leaves its thread behind; nothing may be made after `remove`.
            with self._making[wanted.role]:
                if self._removing:
                    raise SandboxStartError(f"{wanted.name} is being removed")
                return make_container(api, wanted)

        return await self._engine.starting(make)

    def _make_volumes(self, api: docker.APIClient) -> None:
        for body in specs.volume_bodies(self.spec, version=self._version):
            with self._making["acceptor"]:
                if self._removing:
                    raise SandboxStartError(f"{body['name']} is being removed")
                make_volume(api, body)

    async def _start(self, made: Made) -> None:
        await self._engine.starting(lambda api: start_container(api, made))

    async def _inspect(self, role: Role) -> dict[str, Any]:
        name = self._names[role]
        found: dict[str, Any] = await self._engine.running(lambda api: api.inspect_container(name))
        return found

    async def _state(self, role: Role) -> Literal["alive", "ended", "gone"]:
        def look(api: docker.APIClient) -> Literal["alive", "ended", "gone"]:
            try:
                state = api.inspect_container(self._names[role])["State"]
            except NotFound:
                return "gone"
            return "alive" if state["Running"] else "ended"

        return await self._engine.running(look)

    async def _lines(self, role: Role) -> AsyncGenerator[Line, None]:
        """What one reading of the log gives, until the container or the connection ends."""
        lines = Lines(name=self._names[role])
        async with aclosing(threaded(lambda: self._log(role))) as chunks:
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    yield line

    def _log(self, role: Role) -> Stream[bytes]:
        with mapped(SandboxLostError):
            try:
                stream = self._engine.api().logs(
                    self._names[role], stdout=True, stderr=False, stream=True, follow=True
                )
            except APIError as exc:
                if isinstance(exc, NotFound) or conflict(exc):  # it is removed at this moment
                    return Nothing()
                raise
            return Cancellable(stream)

    def _remove(self, api: docker.APIClient) -> None:
        for lock in self._making.values():
            with lock:
                pass  # wait for a container that is just being made
        volumes = specs.volume_names(self.spec.run)
        remove_all(api, containers=self._names.values(), volumes=volumes)
        self._inputs.close(self._names.values())


def _raise_from(results: Iterable[object]) -> None:
    """Raise what failed, if anything did; what must not be removed comes before what may."""
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(errors, key=lambda error: not isinstance(error, SandboxDiffersError)):
        raise error
