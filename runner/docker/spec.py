"""What the three containers are, as the Docker Engine takes it, and how to tell that Docker did it.

Pure: a specification in, bodies of `POST /containers/create` out. Every field that could widen a container
is named with its narrow value, so that compare.py finds it if Docker, a plugin or an older engine thinks otherwise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runner.docker.seccomp import digest, profile
from runner.errors import SandboxStartError
from runner.inside.trust import DIRECTORY as TRUST_DIRECTORY
from runner.inside.trust import TRUST_ENV
from runner.protocol import RunKey
from runner.sandbox import Role, SandboxSpec

ROLES: Final[tuple[Role, ...]] = ("acceptor", "gateway", "agent")
USERS: Final[Mapping[Role, int]] = {"agent": 10001, "acceptor": 10002, "gateway": 10003}
MODULES: Final[Mapping[Role, str]] = {
    "agent": "runner.inside.init",
    "acceptor": "runner.inside.acceptor",
    "gateway": "runner.inside.gateway",
}
HTTP_PORTS: Final = (80, 443)
GVISOR: Final = "runsc"
SOCKET_DIRECTORY: Final = "/run/egress"
QUARANTINE: Final = "/quarantine"
MIRROR: Final = "/mirror"
READS: Final = "/reads"
WORKSPACE: Final = "/workspace"
HOME: Final = "/home/agent"

# -I and -S: nothing from the environment, the working directory or site-packages can get into our programs.
_BOOT: Final = (
    "import importlib,sys;sys.path.insert(0,'/opt/errand');"
    "sys.exit(importlib.import_module(sys.argv.pop(1)).main())"
)
# The agent has the uid of its container's first process, so the process shuts itself off before the agent exists.
# It must stay the first one, without a docker-init that could not.
_SHUT_OFF: Final = (
    "import sys;sys.path.insert(0,'/opt/errand');"
    "from runner.inside.shutoff import shut_off;shut_off();"
)
_BOOTS: Final[Mapping[Role, str]] = {
    "acceptor": _BOOT,
    # The gateway needs one package of Debian's, to make certificates; ours still come first.
    "gateway": "import sys;sys.path.append('/usr/lib/python3/dist-packages');" + _BOOT,
    "agent": _SHUT_OFF + _BOOT,
}
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "GIT_TERMINAL_PROMPT": "0",
}
_MIB: Final = 1024 * 1024
# A container writes at most 40 MiB of transcript; the json-file driver turns `<` into six bytes. Docker would
# drop the beginning at this size, and a transcript without its beginning is worth nothing.
_LOG_SIZE: Final = "256m"
MADE: Final = "errand.made"
"""The label that holds a container's body as it was made, for versions to come."""
PROFILE: Final = "errand.seccomp"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
# Engines differ in what they hide by themselves.
_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY: Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One container as it must be."""

    role: Role
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    memory_mib: int
    cpus: float
    pids: int
    files: int


def container_name(run: RunKey, role: Role) -> str:
    return f"{_prefix(run)}-{role}"


def volume_name(run: RunKey) -> str:
    """Of the directory with the gateway's socket."""
    return f"{_prefix(run)}-sock"


def trust_volume_name(run: RunKey) -> str:
    """Of the directory with the certificates that the agent's container trusts."""
    return f"{_prefix(run)}-trust"


def volume_names(run: RunKey) -> tuple[str, ...]:
    return volume_name(run), trust_volume_name(run)


def _prefix(run: RunKey) -> str:
    if not _NAME.fullmatch(run.task):
        raise SandboxStartError(f"task id {run.task!r} cannot be part of a container's name")
    return f"errand-{run.task}-{run.fence}"


def labels(spec: SandboxSpec, *, role: str, version: str) -> dict[str, str]:
    return {
        "errand.installation": spec.installation,
        "errand.host": spec.host,
        "errand.task": spec.run.task,
        "errand.fence": str(spec.run.fence),
        "errand.role": role,
        "errand.version": version,
    }


def volume_body(spec: SandboxSpec, *, version: str) -> dict[str, Any]:
    """The directory of the gateway's socket: the gateway writes, the acceptor may only look a name up."""
    owner = f"uid={USERS['gateway']},gid={USERS['acceptor']}"
    return {
        "name": volume_name(spec.run),
        "driver": "local",
        "driver_opts": {
            "type": "tmpfs",
            "device": "tmpfs",
            "o": f"size=1m,nr_inodes=64,nosuid,nodev,noexec,{owner},mode=2750",
        },
        "labels": labels(spec, role="socket", version=version),
    }


def trust_volume_body(spec: SandboxSpec, *, version: str) -> dict[str, Any]:
    """The directory of certificates: the gateway writes, everybody may read, nothing in it is secret."""
    owner = f"uid={USERS['gateway']},gid={USERS['gateway']}"
    return {
        "name": trust_volume_name(spec.run),
        "driver": "local",
        "driver_opts": {
            "type": "tmpfs",
            "device": "tmpfs",
            "o": f"size=4m,nr_inodes=64,nosuid,nodev,noexec,{owner},mode=0755",
        },
        "labels": labels(spec, role="trust", version=version),
    }


def volume_bodies(spec: SandboxSpec, *, version: str) -> tuple[dict[str, Any], ...]:
    return volume_body(spec, version=version), trust_volume_body(spec, version=version)


def acceptor(spec: SandboxSpec, *, image: str, version: str) -> Wanted:
    """Owns the network namespace, in which only loopback exists."""
    size = _Size(memory_mib=96, cpus=1.0, pids=64, files=4096)
    host = _host_config("acceptor", size) | {
        "NetworkMode": "none",
        "Dns": ["127.0.0.1"],
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "Mounts": [_socket_mount(spec, read_only=True)],
        "Tmpfs": {"/tmp": _tmpfs("acceptor", mib=8)},  # noqa: S108 - a mount point in the container
    }
    ports = sorted({*HTTP_PORTS, *spec.ports})
    return _wanted(
        spec,
        role="acceptor",
        image=image,
        version=version,
        host=host,
        arguments=[str(port) for port in ports],
    )


def gateway(spec: SandboxSpec, *, image: str, version: str) -> Wanted:
    """The only one with a network, and with the quarantine. Its policy comes on stdin, its certificates are its own."""
    size = _Size(memory_mib=768, cpus=1.0, pids=256, files=16384)
    host = _host_config("gateway", size) | {
        "NetworkMode": "bridge",
        "Mounts": [
            _socket_mount(spec, read_only=False),
            _trust_mount(spec, read_only=False),
            _mirror_mount(spec),
            *(_read_only(path, f"{READS}/{repo}.git") for repo, path in spec.reads),
        ],
        "Tmpfs": {
            "/tmp": _tmpfs("gateway", mib=64),  # noqa: S108 - a mount point in the container
            QUARANTINE: _tmpfs("gateway", mib=256, flags="exec"),  # git runs its hook there
        },
    }
    return _wanted(spec, role="gateway", image=image, version=version, host=host)


def agent(
    spec: SandboxSpec,
    *,
    version: str,
    acceptor_id: str,
    masks: Sequence[Mapping[str, Any]] = (),
) -> Wanted:
    """Joins the acceptor's network namespace; of the gateway it has the certificates to trust, and nothing else.

    `masks` are mounts over programs that policy denies.

    Docker gives it the acceptor's resolv.conf and hosts file along with the namespace.
    """
    limits = spec.limits
    size = _Size(memory_mib=limits.memory_mib, cpus=limits.cpus, pids=limits.pids, files=16384)
    host = _host_config("agent", size) | {
        "Runtime": spec.runtime,
        "NetworkMode": f"container:{acceptor_id}",
        "Mounts": [_trust_mount(spec, read_only=True), _mirror_mount(spec), *masks],
        "Tmpfs": agent_tmpfs(spec),
    }
    return _wanted(spec, role="agent", image=spec.image, version=version, host=host)


def agent_tmpfs(spec: SandboxSpec) -> dict[str, str]:
    """Sizes of what the agent can write.

    Pages of a tmpfs count as memory of the container, whatever `disk_mib` says: the workspace may take half of
    the memory, temporary files and the home directory a quarter each. Full is ENOSPC in one place; full
    everywhere ends the container by its own memory limit, never the host.
    """
    memory, disk = spec.limits.memory_mib, spec.limits.disk_mib
    return {
        WORKSPACE: _tmpfs("agent", mib=min(disk, memory // 2), flags="exec"),
        HOME: _tmpfs("agent", mib=min(disk, memory // 4), flags="exec"),
        "/tmp": _tmpfs("agent", mib=min(disk, memory // 4), flags="exec"),  # noqa: S108 - in the container
    }


def _wanted(
    spec: SandboxSpec,
    *,
    role: Role,
    image: str,
    version: str,
    host: Mapping[str, Any],
    arguments: Sequence[str] = (),
) -> Wanted:
    user = f"{USERS[role]}:{USERS[role]}"
    own = {"HOME": HOME, **TRUST_ENV} if role == "agent" else {"HOME": "/tmp"}  # noqa: S108 - the container's own
    environment = {**_ENVIRONMENT, **own}
    if host["Runtime"] == GVISOR:
        arguments = (*arguments, "--own-kernel")
    body: dict[str, Any] = {
        "Image": image,
        "Entrypoint": ["python3", "-I", "-S", "-c", _BOOTS[role], MODULES[role]],
        "Cmd": list(arguments),
        "User": user,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "WorkingDir": "/",
        "Labels": {**labels(spec, role=role, version=version), PROFILE: digest()},
        "OpenStdin": True,
        "StdinOnce": False,
        "Tty": False,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }
    if role != "agent":  # with another's network namespace comes its hostname
        body["Hostname"] = "sandbox"
    return Wanted(role=role, name=container_name(spec.run, role), body=with_made(body))


def with_made(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body, and in a label what it is; the long profile of system calls has a label of its own."""
    marks = {name: mark for name, mark in body["Labels"].items() if name != MADE}
    host = {name: value for name, value in body["HostConfig"].items() if name != "SecurityOpt"}
    kept = {**body, "Labels": marks, "HostConfig": host}
    made = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return {**body, "Labels": {**marks, MADE: made}}


def _host_config(role: Role, size: _Size) -> dict[str, Any]:
    memory = size.memory_mib * _MIB
    return {
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges", f"seccomp={profile()}"],
        "MaskedPaths": list(_MASKED),
        "ReadonlyPaths": list(_READ_ONLY),
        "Runtime": "runc",
        "Privileged": False,
        "ReadonlyRootfs": True,
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(size.cpus * 1_000_000_000),
        "PidsLimit": size.pids,
        "Ulimits": [
            {"Name": "nofile", "Soft": size.files, "Hard": size.files},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "OomKillDisable": False,
        "OomScoreAdj": 500 if role == "agent" else 0,
        "ShmSize": 64 * _MIB,
        "Init": role != "agent",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "CgroupnsMode": "private",
        "CgroupParent": "",
        "Binds": [],
        "VolumesFrom": [],
        "Devices": [],
        "DeviceRequests": [],
        "DeviceCgroupRules": [],
        "GroupAdd": [],
        "ExtraHosts": [],
        "Dns": [],
        "Links": [],
        "PortBindings": {},
        "PublishAllPorts": False,
        "Sysctls": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": _LOG_SIZE, "max-file": "1"}},
    }


def _tmpfs(role: Role, *, mib: int, flags: str = "noexec") -> str:
    owner = f"uid={USERS[role]},gid={USERS[role]},mode=0700"
    # An inode costs about a kilobyte that is in no size limit: one for every 4 KiB.
    return f"rw,nosuid,nodev,{flags},size={mib}m,nr_inodes={mib * 256},{owner}"


def _socket_mount(spec: SandboxSpec, *, read_only: bool) -> dict[str, Any]:
    return _volume_mount(volume_name(spec.run), SOCKET_DIRECTORY, read_only=read_only)


def _trust_mount(spec: SandboxSpec, *, read_only: bool) -> dict[str, Any]:
    return _volume_mount(trust_volume_name(spec.run), TRUST_DIRECTORY, read_only=read_only)


def _volume_mount(name: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _mirror_mount(spec: SandboxSpec) -> dict[str, Any]:
    return _read_only(spec.mirror, MIRROR)


def _read_only(path: Path, target: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(path),
        "Target": target,
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
