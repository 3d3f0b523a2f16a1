"""Containers on a real Docker host that another version of Errand made and started."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from runner.docker import spec as specs
from runner.docker.sandbox import DockerSandbox
from runner.errors import SandboxDiffersError
from runner.sandbox import SandboxSpec
from tests.support.docker_host import IMAGE_SECONDS, default_image, docker_backend, make_mirror
from tests.support.sandboxes import DockerRig, line

pytestmark = [pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)]
Change = Callable[[dict[str, Any]], object]
EARLIER = "of-last-month"


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerRig]:
    image = default_image()
    mirror, base = make_mirror(tmp_path)
    async with docker_backend(request) as (backend, installation):
        yield DockerRig(
            backend=backend, installation=installation, image=image, mirror=mirror, base=base
        )


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Makes containers as a version made them whose specification was another."""

    api: docker.APIClient
    spec: SandboxSpec
    image: str
    writes_down: bool
    """What it makes; the first versions did not."""

    def sandbox(self) -> list[str]:
        """Ids of three containers that run."""
        self.volumes()
        acceptor = self.container(specs.acceptor(self.spec, image=self.image, version=EARLIER))
        gateway = self.container(specs.gateway(self.spec, image=self.image, version=EARLIER))
        agent = specs.agent(self.spec, version=EARLIER, acceptor_id=acceptor)
        return [acceptor, gateway, self.container(agent)]

    def volumes(self) -> None:
        for body in specs.volume_bodies(self.spec, version=EARLIER):
            options = {**body["driver_opts"], "o": f"{body['driver_opts']['o']},size=2m"}
            self.api.create_volume(**{**body, "driver_opts": options})

    def container(self, wanted: specs.Wanted, change: Change | None = None) -> str:
        body: dict[str, Any] = json.loads(json.dumps(wanted.body))
        host, labels = body["HostConfig"], body["Labels"]
        del labels[specs.MADE]
        labels["errand.another"] = "label"
        host["Memory"] = host["MemorySwap"] = host["Memory"] + 2**24
        host["PidsLimit"] += 1
        host["Ulimits"], host["ShmSize"] = host["Ulimits"][:1], 2**20
        host["MaskedPaths"] = host["MaskedPaths"][:-1]
        body["Env"].append("ANOTHER=variable")
        if change is not None:
            # It would look at itself and end: it has to be one that does not.
            body |= {"Entrypoint": ["cat"], "Cmd": []}
            change(body)
        made = specs.with_made(body) if self.writes_down else body
        container = str(
            self.api.create_container_from_config(made, wanted.name)["Id"]  # type: ignore[no-untyped-call]
        )
        self.api.start(container)
        return container


def earlier(rig: DockerRig, sandbox: DockerSandbox, *, writes_down: bool = True) -> Earlier:
    api = sandbox._engine.api()
    return Earlier(api=api, spec=sandbox.spec, image=rig.image, writes_down=writes_down)


@pytest.mark.parametrize("writes_down", [True, False], ids=["written-down", "not-written-down"])
async def test_a_sandbox_of_an_earlier_version_is_adopted_as_it_is(
    rig: DockerRig, *, writes_down: bool
) -> None:
    sandbox = rig.backend.open(rig.spec())
    before = earlier(rig, sandbox, writes_down=writes_down)
    ids = before.sandbox()
    await sandbox.ensure()
    names = [specs.container_name(sandbox.spec.run, role) for role in specs.ROLES]
    assert [before.api.inspect_container(name)["Id"] for name in names] == ids
    message = {"do": "exec", "argv": ["echo", "hello"], "cwd": "/", "timeout": 20}
    await sandbox.send("agent", key="hello", to="init", msg=message)
    said = await line(sandbox, "agent", kind="output", key="hello")
    assert said.model_dump()["text"] == "hello\n"
    [found] = await rig.backend.leftovers(installation=rig.installation, host="here")
    await rig.backend.discard(found)
    assert await rig.backend.leftovers(installation=rig.installation, host="here") == []


def host(**changes: object) -> Change:
    return lambda body: body["HostConfig"].update(changes)


SOCKET = {"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/x", "ReadOnly": True}
OPEN: dict[str, Change] = {
    "Privileged": host(Privileged=True),
    "CapAdd": host(CapAdd=["NET_ADMIN"]),
    "NetworkMode": host(NetworkMode="bridge", Sysctls={}),
    "SecurityOpt": host(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    "ReadonlyRootfs": host(ReadonlyRootfs=False),
    "Memory": host(Memory=0, MemorySwap=0),
    "mount /x": lambda body: body["HostConfig"]["Mounts"].append(SOCKET),
}  # fmt: skip


@pytest.mark.parametrize("how", OPEN)
async def test_an_open_container_is_not_adopted_and_is_kept(rig: DockerRig, how: str) -> None:
    sandbox = rig.backend.open(rig.spec())
    before = earlier(rig, sandbox)
    before.volumes()
    wanted = specs.acceptor(sandbox.spec, image=rig.image, version=EARLIER)
    made = before.container(wanted, OPEN[how])
    with pytest.raises(SandboxDiffersError, match=how):
        await sandbox.ensure()
    assert before.api.inspect_container(made)["State"]["Running"]
    await _is_set_aside(rig, before.api, made)


async def test_a_container_that_was_changed_since_it_was_made_is_not_adopted_and_is_kept(
    rig: DockerRig,
) -> None:
    sandbox = rig.backend.open(rig.spec())
    before = earlier(rig, sandbox)
    ids = before.sandbox()
    before.api.update_container(ids[2], mem_limit=2**29, memswap_limit=2**29)
    with pytest.raises(SandboxDiffersError, match="Memory"):
        await sandbox.ensure()
    await _is_set_aside(rig, before.api, ids[2])


async def _is_set_aside(rig: DockerRig, api: docker.APIClient, container: str) -> None:
    [found] = await rig.backend.leftovers(installation=rig.installation, host="here")
    await rig.backend.set_aside(found)
    assert api.inspect_container(container)["State"]["Paused"]
    [aside] = await rig.backend.aside(installation=rig.installation)
    assert aside.run == found.run
    await rig.backend.discard(aside)
