"""A Docker host as a backend for sandboxes."""

from collections import defaultdict
from typing import Any

import docker

from runner.docker import spec as specs
from runner.docker.containers import freeze_all, is_aside, name_of, remove_all
from runner.docker.examine import examine, remarks
from runner.docker.masks import Masks
from runner.docker.sandbox import DockerSandbox
from runner.docker.stdin import Inputs
from runner.engine import Engine
from runner.errors import SandboxLostError
from runner.images.base import find_image
from runner.images.build import REGISTRIES_LABEL
from runner.images.context import DEFAULT, code_hash, image_tag
from runner.protocol import RunKey, Runtime
from runner.sandbox import Leftover, SandboxSpec

_Names = dict[tuple[str, str, int], list[str]]
"""Of containers, by host, task and fence."""


class DockerBackend:
    """`docker_host` as in DOCKER_HOST; None is the local socket. `runtime` is what `check` looks for.

    Acceptor and gateway run from the default image of this code.
    """

    def __init__(self, docker_host: str | None = None, *, runtime: Runtime = "runc") -> None:
        self._engine = Engine(docker_host)
        self._inputs = Inputs(self._engine.api)
        self._image = image_tag(DEFAULT)
        self._version = code_hash()
        self._masks = Masks(image=self._image)
        self._runtime = runtime

    def open(self, spec: SandboxSpec) -> DockerSandbox:
        return DockerSandbox(
            spec,
            engine=self._engine,
            inputs=self._inputs,
            image=self._image,
            version=self._version,
            masks=self._masks,
        )

    async def leftovers(self, *, installation: str, host: str | None = None) -> list[Leftover]:
        marks = [f"errand.installation={installation}"]
        if host is not None:
            marks.append(f"errand.host={host}")
        return _told(await self._engine.running(lambda api: _labelled(api, marks)))

    async def set_aside(self, leftover: Leftover) -> None:
        await self._engine.running(lambda api: freeze_all(api, leftover.containers))
        self._inputs.close(leftover.containers)

    async def aside(self, *, installation: str) -> list[Leftover]:
        marks = [f"errand.installation={installation}"]
        return _told(await self._engine.running(lambda api: _frozen(api, marks)))

    async def discard(self, leftover: Leftover) -> None:
        volumes = specs.volume_names(leftover.run)
        await self._engine.running(
            lambda api: remove_all(api, containers=leftover.containers, volumes=volumes)
        )
        self._inputs.close(leftover.containers)

    async def registries(self, image: str) -> str:
        found = await self._engine.running(lambda api: find_image(api, image))
        labels: dict[str, str] = (found or {}).get("Labels") or {}
        return labels.get(REGISTRIES_LABEL, "")

    async def check(self) -> list[str]:
        try:
            return await self._engine.running(
                lambda api: examine(api, image=self._image, runtime=self._runtime)
            )
        except SandboxLostError as exc:
            return [str(exc)]

    async def remarks(self) -> list[str]:
        return await self._engine.running(remarks)

    def close(self) -> None:
        """Close connections; containers go on. A backend that is used again opens new ones."""
        self._inputs.close()
        self._engine.close()


def _told(found: _Names) -> list[Leftover]:
    return [
        Leftover(run=RunKey(task=task, fence=fence), host=host, containers=tuple(sorted(names)))
        for (host, task, fence), names in sorted(found.items())
    ]


def _labelled(api: docker.APIClient, marks: list[str]) -> _Names:
    """A run of which only volumes are left has no names."""
    found: _Names = defaultdict(list)
    aside = _frozen(api, marks)
    for container in api.containers(all=True, filters={"label": marks}):
        if not is_aside(name := name_of(container)):
            found[_key(container["Labels"])].append(name)
    for volume in api.volumes(filters={"label": marks})["Volumes"] or []:
        if (key := _key(volume["Labels"])) not in aside:
            found.setdefault(key, [])
    return found


def _frozen(api: docker.APIClient, marks: list[str]) -> _Names:
    """Of those that were set aside."""
    found: _Names = defaultdict(list)
    for container in api.containers(all=True, filters={"label": marks}):
        if is_aside(name := name_of(container)):
            found[_key(container["Labels"])].append(name)
    return found


def _key(labels: dict[str, Any]) -> tuple[str, str, int]:
    return labels["errand.host"], labels["errand.task"], int(labels["errand.fence"])
