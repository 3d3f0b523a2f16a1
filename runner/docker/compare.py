"""Whether the container that Docker made is the one that was asked for. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from runner.docker.spec import Wanted
from runner.sandbox import Role

_Mount = tuple[str, str, bool]
"""Where, of which type, and whether read-only."""


CONFINING = (
    "CapDrop",
    "CapAdd",
    "Privileged",
    "ReadonlyRootfs",
    "Runtime",
    "NetworkMode",
    "PortBindings",
    "PublishAllPorts",
    "IpcMode",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "CgroupnsMode",
    "CgroupParent",
    "Binds",
    "VolumesFrom",
    "Devices",
    "DeviceRequests",
    "DeviceCgroupRules",
    "GroupAdd",
    "Links",
    "OomKillDisable",
    "AutoRemove",
)
"""What keeps a container in, whichever version of Errand made it; the rest may change from one to the next."""
LIMITS = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")


def mismatches(inspect: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Where the container that Docker made differs from what was asked for; empty if nowhere."""
    body = dict(wanted.body)
    host = body.pop("HostConfig")
    found = _differences(inspect["HostConfig"], host, path="HostConfig")
    environment, marks = body.pop("Env"), body.pop("Labels")
    found += _differences(inspect["Config"], body, path="Config")
    found += _environment_differences(inspect["Config"].get("Env") or [], environment, wanted.role)
    found += _differences(inspect["Config"]["Labels"] or {}, marks, path="Config.Labels")
    return found + _mount_differences(inspect.get("Mounts") or [], host["Mounts"])


def loosened(inspect: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Where a container that another version made is less confined than this one's are; empty if nowhere.

    Programs, arguments, environment, labels, sizes and further masks are that version's own.
    """
    host, have = wanted.body["HostConfig"], inspect["HostConfig"]
    found = _differences(have, {name: host[name] for name in CONFINING}, path="HostConfig")
    found += [f"HostConfig.{name} is not limited" for name in LIMITS if have.get(name, 0) <= 0]
    options = have.get("SecurityOpt") or []
    if "no-new-privileges" not in options:
        found.append("HostConfig.SecurityOpt lacks no-new-privileges")
    if not any(option.startswith("seccomp={") for option in options):
        found.append("HostConfig.SecurityOpt has no seccomp profile")
    found += _differences(inspect["Config"], {"User": wanted.body["User"]}, path="Config")
    return found + _mounts_besides(inspect.get("Mounts") or [], host["Mounts"])


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], *, path: str) -> list[str]:
    return [
        f"{path}.{name} is {found.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if not _same(found.get(name), value)
    ]


def _same(found: object, wanted: object) -> bool:
    """Docker leaves out what is empty or false, at any depth."""
    if not wanted:
        return not found
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(_same(found.get(k), wanted.get(k)) for k in wanted.keys() | found.keys())
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return all(_same(f, w) for f, w in zip(found, wanted, strict=True))
    return found == wanted


def _environment_differences(found: Sequence[str], wanted: Sequence[str], role: Role) -> list[str]:
    """An agent's image may bring variables of its own (a JAVA_HOME); ours may not."""
    missing, extra = set(wanted) - set(found), set(found) - set(wanted)
    lines = [f"Config.Env lacks {entry.partition('=')[0]}" for entry in sorted(missing)]
    if role != "agent":
        lines += [f"Config.Env also has {entry.partition('=')[0]}" for entry in sorted(extra)]
    return lines


def _mount_differences(
    found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Catches what an image's VOLUME adds, too. Engines differ in whether they list a tmpfs here."""
    missing = _asked_for(wanted) - _there(found)
    return [
        *_mounts_besides(found, wanted),
        *(f"mount {entry} is missing" for entry in sorted(missing)),
    ]


def _mounts_besides(
    found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> list[str]:
    besides = _there(found) - _asked_for(wanted)
    return [f"mount {entry} is there, unasked for" for entry in sorted(besides)]


def _there(found: Sequence[Mapping[str, Any]]) -> set[_Mount]:
    return {(m["Destination"], m["Type"], not m["RW"]) for m in found if m["Type"] != "tmpfs"}


def _asked_for(wanted: Sequence[Mapping[str, Any]]) -> set[_Mount]:
    return {(m["Target"], m["Type"], m["ReadOnly"]) for m in wanted}
