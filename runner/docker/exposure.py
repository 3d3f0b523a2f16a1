"""What no container of ours may be open to, whatever version of Errand made it. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

from runner.docker.spec import GVISOR, Wanted

_NARROW: Final[Mapping[str, object]] = {
    "Privileged": False,
    "CapAdd": [],
    "CapDrop": ["ALL"],
    "ReadonlyRootfs": True,
    "OomKillDisable": False,
    "PublishAllPorts": False,
    "PidMode": "",
    "UTSMode": "",
    "UsernsMode": "",
    "IpcMode": "private",
    "CgroupnsMode": "private",
    "Binds": [],
    "VolumesFrom": [],
    "Devices": [],
    "DeviceRequests": [],
    "DeviceCgroupRules": [],
    "GroupAdd": [],
    "Links": [],
    "PortBindings": {},
}
_LIMITED: Final = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")
_HIDING: Final = ("MaskedPaths", "ReadonlyPaths")
_OPENING: Final = ("unconfined", "disable", "=false", ":false")
# The note over denied programs, of whatever version: its volume is the daemon's, wherever that keeps volumes.
_NOTE: Final = re.compile(r"/.+/volumes/errand-denied-[0-9a-f]+/_data/denied")


def exposures(inspect: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Where a container is open, though it must be closed; empty if nowhere.

    Args:
        inspect: what Docker says of it.
        wanted: what this version would make in its place.
    """
    host, body = inspect["HostConfig"], wanted.body
    found = [
        f"HostConfig.{name} is {host.get(name)!r}"
        for name, narrow in _NARROW.items()
        if (host.get(name) or None) != (narrow or None)
    ]
    found += [f"HostConfig.{name} has no limit" for name in _LIMITED if (host.get(name) or 0) <= 0]
    found += [f"HostConfig.{name} is empty" for name in _HIDING if not host.get(name)]
    if not _is_confined(host.get("SecurityOpt") or []):
        found.append("HostConfig.SecurityOpt leaves it unconfined")
    if host.get("Runtime") not in {body["HostConfig"]["Runtime"], GVISOR}:
        found.append(f"HostConfig.Runtime is {host.get('Runtime')!r}")
    if inspect["Config"].get("User") != body["User"]:
        found.append(f"Config.User is {inspect['Config'].get('User')!r}")
    if wanted.role == "agent" and inspect["Config"].get("Image") != body["Image"]:
        found.append(f"Config.Image is {inspect['Config'].get('Image')!r}")
    return found + _network_exposures(host, wanted) + _mount_exposures(inspect, wanted)


def _is_confined(options: list[str]) -> bool:
    return (
        any(option.startswith("no-new-privileges") for option in options)
        and any(option.startswith("seccomp=") for option in options)
        and not any(option.endswith(_OPENING) for option in options)
    )


def _network_exposures(host: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Of the three, the gateway has a network: one of Docker's, and not the host's or another container's."""
    mode = str(host.get("NetworkMode"))
    if wanted.role == "gateway":
        wrong = mode == "host" or mode.startswith("container:")
    else:
        wrong = mode != wanted.body["HostConfig"]["NetworkMode"]
    return [f"HostConfig.NetworkMode is {mode!r}"] if wrong else []


def _mount_exposures(inspect: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """The run's own volumes, and of the host what this version gives it, too, to read."""
    of_run = wanted.name.removesuffix(wanted.role)
    sources = {m["Source"] for m in wanted.body["HostConfig"]["Mounts"] if m["Type"] == "bind"}
    # Docker Desktop tells sources as its virtual machine knows them; as they were asked for they stand here.
    asked = {m["Target"]: m["Source"] for m in inspect["HostConfig"].get("Mounts") or []}
    found = []
    for mount in inspect.get("Mounts") or []:
        kind, source = mount["Type"], str(mount.get("Source"))
        if kind == "bind":
            source = asked.get(mount["Destination"], source)
        ours = (
            kind == "tmpfs"
            or (kind == "volume" and str(mount.get("Name")).startswith(of_run))
            or (kind == "bind" and (source in sources or _NOTE.fullmatch(source)))
        )
        writable = mount["RW"] and (kind == "bind" or (kind, wanted.role) == ("volume", "agent"))
        if not ours or writable:
            found.append(f"mount {mount['Destination']} is there, of {kind} {source}")
    return found
