"""A container that was there already, and perhaps made by another version of Errand."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runner.docker import spec as specs
from runner.docker.compare import adopted_mismatches
from runner.docker.exposure import exposures
from runner.docker.spec import MADE, PROFILE, ROLES, Wanted, with_made
from runner.sandbox import Role
from tests.unit.docker.test_spec import SPEC, as_inspected, wanted

Change = Callable[[dict[str, Any]], object]


def inspected(role: Role) -> dict[str, Any]:
    """With sources of mounts, as Docker tells them."""
    found = as_inspected(wanted(role))
    for mount, asked in zip(
        found["Mounts"], wanted(role).body["HostConfig"]["Mounts"], strict=True
    ):
        if mount["Type"] == "volume":
            mount |= {
                "Name": asked["Source"],
                "Source": f"/var/lib/docker/volumes/{asked['Source']}/_data",
            }
        else:
            mount["Source"] = asked["Source"]
    return found


def of_earlier_version(role: Role, *, version: str = "of-last-month") -> Wanted:
    """One whose containers had more memory, another variable, a smaller tmpfs and no limit of files."""
    body: dict[str, Any] = json.loads(json.dumps(wanted(role).body))
    host, labels = body["HostConfig"], body["Labels"]
    del labels[MADE], host["Ulimits"]
    labels |= {"errand.version": version, "errand.another": "label"}
    host["Memory"] = host["MemorySwap"] = 2 * host["Memory"]
    host["Tmpfs"] = {"/tmp": "rw,nosuid,nodev,size=1m"}  # noqa: S108 - in the container
    body["Env"].append("ANOTHER=variable")
    return replace(wanted(role), body=with_made(body))


def made_by_earlier_version(role: Role, *, version: str = "of-last-month") -> dict[str, Any]:
    found = as_inspected(of_earlier_version(role, version=version))
    return found | {"Mounts": inspected(role)["Mounts"]}


@pytest.mark.parametrize("role", ROLES)
def test_a_container_is_open_to_nothing_that_it_may_not_be(role: Role) -> None:
    assert exposures(inspected(role), wanted(role)) == []


@pytest.mark.parametrize("role", ROLES)
def test_what_another_version_made_otherwise_is_no_mismatch(role: Role) -> None:
    assert adopted_mismatches(made_by_earlier_version(role), wanted(role)) == []


@pytest.mark.parametrize("role", ROLES)
def test_what_a_version_made_that_wrote_nothing_down_is_no_mismatch(role: Role) -> None:
    found = made_by_earlier_version(role)
    del found["Config"]["Labels"][MADE]
    assert adopted_mismatches(found, wanted(role)) == []


@pytest.mark.parametrize("role", ROLES)
def test_what_this_version_made_of_other_sources_is_no_mismatch(role: Role) -> None:
    """The version is that of the images' code: it may stay the same where specifications change."""
    found = made_by_earlier_version(role, version="v")
    assert adopted_mismatches(found, wanted(role)) == []
    del found["Config"]["Labels"][MADE]
    assert adopted_mismatches(found, wanted(role)) == []


@pytest.mark.parametrize("role", ROLES)
def test_another_profile_of_system_calls_is_no_mismatch(role: Role) -> None:
    body: dict[str, Any] = json.loads(json.dumps(wanted(role).body))
    body["Labels"][PROFILE] = "of-last-month"
    body["HostConfig"]["SecurityOpt"][1] = 'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}'
    found = as_inspected(replace(wanted(role), body=with_made(body)))
    assert adopted_mismatches(found | {"Mounts": inspected(role)["Mounts"]}, wanted(role)) == []


def test_an_agent_under_a_stricter_runtime_is_no_mismatch() -> None:
    stricter = specs.agent(
        SPEC.model_copy(update={"runtime": "runsc"}), version="v", acceptor_id="acceptor-id"
    )
    found = as_inspected(stricter) | {"Mounts": inspected("agent")["Mounts"]}
    assert adopted_mismatches(found, wanted("agent")) == []


@pytest.mark.parametrize("role", ROLES)
def test_what_this_version_made_otherwise_is_a_mismatch(role: Role) -> None:
    found = inspected(role)
    found["HostConfig"]["Memory"] += 1
    assert len(adopted_mismatches(found, wanted(role))) == 1


@pytest.mark.parametrize("role", ["acceptor", "gateway"])
def test_an_image_that_was_built_anew_is_no_mismatch(role: Role) -> None:
    found = inspected(role)
    body = with_made({**wanted(role).body, "Image": "of-yesterday"})
    found["Config"] |= {"Image": "of-yesterday", "Labels": body["Labels"]}
    assert adopted_mismatches(found, wanted(role)) == []


def test_an_agent_of_another_image_is_a_mismatch() -> None:
    found = inspected("agent")
    found["Config"]["Image"] = "of-yesterday"
    assert len(adopted_mismatches(found, wanted("agent"))) == 1


def test_what_was_written_down_is_short() -> None:
    for role in ROLES:
        assert len(wanted(role).body["Labels"][MADE]) < 4000


def host(**changes: object) -> Change:
    return lambda found: found["HostConfig"].update(changes)


def mount(**fields: object) -> Change:
    return lambda found: found["Mounts"].append({"Destination": "/x", "RW": False, **fields})


OPEN: dict[str, Change] = {
    "Privileged": host(Privileged=True),
    "CapAdd": host(CapAdd=["NET_ADMIN"]),
    "CapDrop": host(CapDrop=None),
    "ReadonlyRootfs": host(ReadonlyRootfs=False),
    "NetworkMode": host(NetworkMode="host"),
    "PidMode": host(PidMode="host"),
    "IpcMode": host(IpcMode="host"),
    "UTSMode": host(UTSMode="host"),
    "UsernsMode": host(UsernsMode="host"),
    "CgroupnsMode": host(CgroupnsMode="host"),
    "Binds": host(Binds=["/:/host"]),
    "VolumesFrom": host(VolumesFrom=["other"]),
    "Devices": host(Devices=[{"PathOnHost": "/dev/kvm"}]),
    "DeviceRequests": host(DeviceRequests=[{"Driver": "nvidia"}]),
    "DeviceCgroupRules": host(DeviceCgroupRules=["c 1:1 rwm"]),
    "GroupAdd": host(GroupAdd=["docker"]),
    "Links": host(Links=["other:other"]),
    "PortBindings": host(PortBindings={"80/tcp": [{"HostPort": "80"}]}),
    "PublishAllPorts": host(PublishAllPorts=True),
    "OomKillDisable": host(OomKillDisable=True),
    "Memory": host(Memory=0),
    "MemorySwap": host(MemorySwap=-1),
    "NanoCpus": host(NanoCpus=None),
    "PidsLimit": host(PidsLimit=None),
    "MaskedPaths": host(MaskedPaths=[]),
    "ReadonlyPaths": host(ReadonlyPaths=None),
    "Runtime": host(Runtime="crun"),
    "no seccomp": host(SecurityOpt=["no-new-privileges"]),
    "seccomp=unconfined": host(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    "label=disable": host(SecurityOpt=["no-new-privileges", "seccomp={}", "label=disable"]),
    "new privileges": host(SecurityOpt=["seccomp={}"]),
    "User": lambda found: found["Config"].update(User="0:0"),
    "docker.sock": mount(Type="bind", Source="/var/run/docker.sock"),
    "another's volume": mount(Type="volume", Name="errand-t9-1-trust", Source="/v"),
    "a writable mirror": mount(
        Type="bind", Source="/var/lib/errand/mirrors/web.git", RW=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", OPEN)
def test_whatever_version_made_it_an_open_container_is_not_adopted(role: Role, how: str) -> None:
    """Not even if it was made so, by a version that wrote nothing down."""
    found = made_by_earlier_version(role)
    OPEN[how](found)
    del found["Config"]["Labels"][MADE]
    assert adopted_mismatches(found, wanted(role))


def test_an_agent_writes_to_no_mount_and_runs_from_its_own_image() -> None:
    found = made_by_earlier_version("agent")
    found["Mounts"][0]["RW"] = True
    found["Config"]["Image"] = "another"
    assert len(exposures(found, wanted("agent"))) == 2


@pytest.mark.parametrize("made", ["no JSON", "[]", "{}", '{"HostConfig": 1}'])
def test_what_was_written_down_and_cannot_be_read_is_a_mismatch(made: str) -> None:
    found = made_by_earlier_version("gateway")
    found["Config"]["Labels"][MADE] = made
    assert adopted_mismatches(found, wanted("gateway")) == ["label errand.made cannot be read"]


def test_what_was_changed_since_it_was_made_is_a_mismatch() -> None:
    found = made_by_earlier_version("agent")
    found["HostConfig"]["Memory"] *= 2
    [said] = adopted_mismatches(found, wanted("agent"))
    assert said.startswith("HostConfig.Memory is")


def test_a_mismatch_is_said_in_few_words() -> None:
    found = inspected("agent")
    found["HostConfig"]["SecurityOpt"] = []
    [said] = adopted_mismatches(found, wanted("agent"))
    assert len(said) < 300


def test_a_note_of_another_version_may_lie_over_a_denied_program() -> None:
    found = made_by_earlier_version("agent")
    del found["Config"]["Labels"][MADE]
    source = "/var/lib/docker/volumes/errand-denied-0123456789ab/_data/denied"
    mount(Type="bind", Source=source)(found)
    assert adopted_mismatches(found, wanted("agent")) == []
    mount(Type="bind", Source=f"{source}/../../../..")(found)
    assert len(adopted_mismatches(found, wanted("agent"))) == 1
