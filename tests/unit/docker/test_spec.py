import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.docker import spec as specs
from runner.docker.compare import mismatches
from runner.docker.seccomp import digest, profile
from runner.docker.spec import ROLES, Wanted
from runner.errors import SandboxStartError
from runner.protocol import RunKey, RunLimits
from runner.sandbox import Role, SandboxSpec

SPEC = SandboxSpec(
    installation="acme",
    host="h1",
    run=RunKey(task="t1", fence=2),
    image="errand-default:abc",
    mirror=Path("/var/lib/errand/mirrors/web.git"),
    limits=RunLimits(memory_mib=1024, cpus=1.5, pids=100, disk_mib=200),
)


def wanted(role: Role) -> Wanted:
    match role:
        case "acceptor":
            return specs.acceptor(SPEC, image="errand-default:abc", version="v")
        case "gateway":
            return specs.gateway(SPEC, image="errand-default:abc", version="v")
        case "agent":
            return specs.agent(SPEC, version="v", acceptor_id="acceptor-id")


def as_inspected(container: Wanted) -> dict[str, Any]:
    """What Docker answers when it did all that was asked for."""
    body: dict[str, Any] = copy.deepcopy(dict(container.body))
    host = body.pop("HostConfig")
    mounts = [
        {"Type": m["Type"], "Destination": m["Target"], "RW": not m["ReadOnly"]}
        for m in host["Mounts"]
    ]
    return {"Config": body, "HostConfig": host, "Mounts": mounts}


@pytest.mark.parametrize("role", ROLES)
def test_a_container_as_asked_for_has_no_mismatch(role: Role) -> None:
    assert mismatches(as_inspected(wanted(role)), wanted(role)) == []


@pytest.mark.parametrize("role", ROLES)
def test_what_docker_leaves_out_because_it_is_empty_is_no_mismatch(role: Role) -> None:
    inspected = as_inspected(wanted(role))
    host = inspected["HostConfig"]
    inspected["HostConfig"] = {name: value for name, value in host.items() if value}
    assert mismatches(inspected, wanted(role)) == []


WIDER: dict[str, Callable[[dict[str, Any]], object]] = {
    "CapAdd": lambda found: found["HostConfig"].update(CapAdd=["SYS_ADMIN"]),
    "CapDrop": lambda found: found["HostConfig"].update(CapDrop=None),
    "SecurityOpt": lambda found: found["HostConfig"].update(SecurityOpt=["seccomp=unconfined"]),
    "Runtime": lambda found: found["HostConfig"].update(Runtime="crun"),
    "MaskedPaths": lambda found: found["HostConfig"].update(MaskedPaths=[]),
    "ReadonlyPaths": lambda found: found["HostConfig"].update(ReadonlyPaths=["/proc/sys"]),
    "Privileged": lambda found: found["HostConfig"].update(Privileged=True),
    "ReadonlyRootfs": lambda found: found["HostConfig"].update(ReadonlyRootfs=False),
    "NetworkMode": lambda found: found["HostConfig"].update(NetworkMode="host"),
    "PidMode": lambda found: found["HostConfig"].update(PidMode="host"),
    "IpcMode": lambda found: found["HostConfig"].update(IpcMode="shareable"),
    "UsernsMode": lambda found: found["HostConfig"].update(UsernsMode="host"),
    "Memory": lambda found: found["HostConfig"].update(Memory=0),
    "MemorySwap": lambda found: found["HostConfig"].update(MemorySwap=-1),
    "PidsLimit": lambda found: found["HostConfig"].update(PidsLimit=None),
    "Devices": lambda found: found["HostConfig"].update(Devices=[{"PathOnHost": "/dev/kvm"}]),
    "Binds": lambda found: found["HostConfig"].update(Binds=["/:/host"]),
    "VolumesFrom": lambda found: found["HostConfig"].update(VolumesFrom=["other"]),
    "GroupAdd": lambda found: found["HostConfig"].update(GroupAdd=["docker"]),
    "Ulimits": lambda found: found["HostConfig"].update(Ulimits=[]),
    "LogConfig": lambda found: found["HostConfig"].update(LogConfig={"Type": "none"}),
    "AutoRemove": lambda found: found["HostConfig"].update(AutoRemove=True),
    "Tmpfs": lambda found: found["HostConfig"].update(Tmpfs={"/data": ""}),
    "User": lambda found: found["Config"].update(User=""),
    "Entrypoint": lambda found: found["Config"].update(Entrypoint=["sh"]),
    "Tty": lambda found: found["Config"].update(Tty=True),
    "Image": lambda found: found["Config"].update(Image="other"),
    "Labels": lambda found: found["Config"]["Labels"].pop("errand.task"),
    "Env": lambda found: found["Config"]["Env"].pop(),
    "/var/run/docker.sock": lambda found: found["Mounts"].append(
        {"Type": "bind", "Destination": "/var/run/docker.sock", "RW": True}
    ),
    "/data": lambda found: found["Mounts"].append(
        {"Type": "volume", "Destination": "/data", "RW": True}
    ),
    "missing": lambda found: found["Mounts"].clear(),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("field", WIDER)
def test_a_container_that_is_wider_than_asked_for_is_found_out(role: Role, field: str) -> None:
    inspected = as_inspected(wanted(role))
    WIDER[field](inspected)
    found = mismatches(inspected, wanted(role))
    assert found
    assert any(field in sentence for sentence in found)


def test_the_mirror_must_not_be_writable() -> None:
    inspected = as_inspected(wanted("agent"))
    inspected["Mounts"][0]["RW"] = True
    assert len(mismatches(inspected, wanted("agent"))) == 2


@pytest.mark.parametrize(("role", "found"), [("agent", 0), ("gateway", 1), ("acceptor", 1)])
def test_only_an_agents_image_may_bring_variables(role: Role, found: int) -> None:
    inspected = as_inspected(wanted(role))
    inspected["Config"]["Env"].append("JAVA_HOME=/opt/java")
    assert len(mismatches(inspected, wanted(role))) == found


@pytest.mark.parametrize("role", ROLES)
def test_every_container_is_hardened(role: Role) -> None:
    body = wanted(role).body
    host = body["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges", f"seccomp={profile()}"]
    assert host["ReadonlyRootfs"] is True
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["RestartPolicy"]["Name"] == "no"
    assert {"Name": "core", "Soft": 0, "Hard": 0} in host["Ulimits"]
    assert all("nosuid,nodev" in options for options in host["Tmpfs"].values())
    assert body["User"].split(":") == [str(specs.USERS[role])] * 2


def test_the_acceptor_listens_for_http_and_where_connections_are() -> None:
    more = SPEC.model_copy(update={"ports": (5432, 443)})
    assert wanted("acceptor").body["Cmd"] == ["80", "443"]
    body = specs.acceptor(more, image="errand-default:abc", version="v").body
    assert body["Cmd"] == ["80", "443", "5432"]


def test_only_the_gateway_has_a_network_and_only_it_and_the_acceptor_share_the_socket() -> None:
    hosts = {role: wanted(role).body["HostConfig"] for role in ROLES}
    assert hosts["acceptor"]["NetworkMode"] == "none"
    assert hosts["agent"]["NetworkMode"] == "container:acceptor-id"
    assert hosts["gateway"]["NetworkMode"] == "bridge"
    mounts = {role: {m["Target"] for m in host["Mounts"]} for role, host in hosts.items()}
    assert mounts == {
        "acceptor": {"/run/egress"},
        "gateway": {"/run/egress", "/run/trust", "/mirror"},
        "agent": {"/run/trust", "/mirror"},
    }


def test_the_limits_of_the_run_are_the_agents() -> None:
    host = wanted("agent").body["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (
        1024 * 1024 * 1024,
        1_500_000_000,
        100,
    )


def test_what_the_agent_writes_is_within_disk_and_memory() -> None:
    sizes = specs.agent_tmpfs(SPEC)
    assert all("size=200m" in options for options in sizes.values())
    ample = SPEC.model_copy(update={"limits": RunLimits(memory_mib=1024)})
    assert "size=512m" in specs.agent_tmpfs(ample)["/workspace"]
    assert "size=256m" in specs.agent_tmpfs(ample)["/home/agent"]


def test_names_and_labels_tell_the_run() -> None:
    assert [specs.container_name(SPEC.run, role) for role in ROLES] == [
        "errand-t1-2-acceptor",
        "errand-t1-2-gateway",
        "errand-t1-2-agent",
    ]
    assert specs.volume_name(SPEC.run) == "errand-t1-2-sock"
    labels = dict(wanted("agent").body["Labels"])
    made = json.loads(labels.pop(specs.MADE))
    host = dict(wanted("agent").body["HostConfig"])
    del host["SecurityOpt"]
    assert made == {**wanted("agent").body, "Labels": labels, "HostConfig": host}
    assert labels == {
        "errand.installation": "acme",
        "errand.host": "h1",
        "errand.task": "t1",
        "errand.fence": "2",
        "errand.role": "agent",
        "errand.version": "v",
        "errand.seccomp": digest(),
    }


@pytest.mark.parametrize("task", ["", "../x", "a b", "-x", "a" * 101, "a\n"])
def test_a_task_id_that_is_no_name_makes_no_container(task: str) -> None:
    with pytest.raises(SandboxStartError):
        specs.container_name(RunKey(task=task, fence=1), "agent")


def test_gvisor_runs_the_agent_alone_and_the_agent_is_told() -> None:
    spec = SPEC.model_copy(update={"runtime": "runsc"})
    made = specs.agent(spec, version="v", acceptor_id="a")
    assert made.body["HostConfig"]["Runtime"] == "runsc"
    assert made.body["Cmd"] == ["--own-kernel"]
    for other in (
        specs.acceptor(spec, image="i", version="v"),
        specs.gateway(spec, image="i", version="v"),
    ):
        assert other.body["HostConfig"]["Runtime"] == "runc"
        assert "--own-kernel" not in other.body["Cmd"]


def test_a_mask_that_is_missing_is_found_out() -> None:
    mask = {"Type": "bind", "Source": "/note", "Target": "/usr/bin/curl", "ReadOnly": True}
    made = specs.agent(SPEC, version="v", acceptor_id="acceptor-id", masks=[mask])
    assert mismatches(as_inspected(made), made) == []
    missing = mismatches(as_inspected(wanted("agent")), made)
    assert any("/usr/bin/curl" in sentence for sentence in missing)
