"""What `errand doctor` says about a Docker host."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import docker
import structlog

from runner.docker.spec import GVISOR
from runner.protocol import Runtime

log = structlog.get_logger()

_OLDEST_ENGINE: Final = (20, 10)
_MAINTAINED_ENGINE: Final = (25,)
_FREE_GIB: Final = 5
_SHARED_LOOPBACK: Final = "--network=host"
_HOW: Final = f"install gVisor and register it with {_SHARED_LOOPBACK} (docs/security.md)"
_LIMITS: Final[Mapping[str, str]] = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap (boot with swapaccount=1, or use cgroup v2)",
    "PidsLimit": "processes",
    "CpuCfsQuota": "processor time",
}


def examine(api: docker.APIClient, *, image: str, runtime: Runtime) -> list[str]:
    """Blocking. Problems, each with what to do; `runtime` is what this host's settings demand."""
    info, version = api.info(), api.version()
    log.info("docker_examined", engine=info["ServerVersion"], runc=component(version, "runc"))
    problems = daemon_problems(info) + runtime_problems(info, runtime)
    if not api.images(image):
        problems.append(f"Image {image} is not on this Docker host: run `errand image build`.")
    return problems + space_problems(Path(info["DockerRootDir"]))


def daemon_problems(info: Mapping[str, Any]) -> list[str]:
    """By what `docker info` says."""
    problems = []
    engine = str(info["ServerVersion"])
    if version_numbers(engine) < _OLDEST_ENGINE:
        problems.append(f"Docker Engine {engine} is too old: install 20.10 or later.")
    if info.get("OSType") != "linux":
        problems.append("Docker runs no Linux containers: switch it to them.")
    if not any("seccomp" in option for option in info.get("SecurityOptions") or []):
        problems.append("Docker filters no system calls: use a kernel and a Docker with seccomp.")
    return problems + [
        f"This host cannot limit {what}: containers would not start."
        for field, what in _LIMITS.items()
        if not info.get(field)
    ]


def runtime_problems(info: Mapping[str, Any], runtime: Runtime) -> list[str]:
    """What stands in the way of gVisor, where it is demanded."""
    if runtime != GVISOR:
        return []
    found = (info.get("Runtimes") or {}).get(GVISOR)
    if found is None:
        return [f"ERRAND_WORK__RUNTIME is {GVISOR}, which Docker does not know: {_HOW}."]
    if _SHARED_LOOPBACK not in (found.get("runtimeArgs") or []):
        return [
            f"Docker runs {GVISOR} without {_SHARED_LOOPBACK}, so no agent would start: {_HOW}."
        ]
    return []


def remarks(api: docker.APIClient) -> list[str]:
    """Blocking. What would make this host harder to break out of."""
    return said_of(api.info(), runc=component(api.version(), "runc"))


def said_of(info: Mapping[str, Any], *, runc: str) -> list[str]:
    found = []
    if runc != "unknown" and not _is_mended(version_numbers(runc)):
        found.append(
            f"runc {runc} lacks the fixes for CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881, unless the "
            "distribution has brought them in: upgrade to 1.2.8, 1.3.3, 1.4 or later"
        )
    engine = str(info["ServerVersion"])
    if version_numbers(engine) < _MAINTAINED_ENGINE:
        found.append(
            f"Docker Engine {engine} gets no fixes from its makers: upgrade, or trust the distribution's"
        )
    if info.get("DefaultRuntime", "runc") == "runc" and GVISOR not in (info.get("Runtimes") or {}):
        found.append(
            "gVisor is not installed, which would keep agents off this host's kernel (docs/security.md)"
        )
    options = info.get("SecurityOptions") or []
    if not any(word in option for option in options for word in ("rootless", "userns")):
        found.append(
            "Docker runs as root without user namespaces: rootless mode or userns-remap is one wall more"
        )
    return found


def _is_mended(version: tuple[int, ...]) -> bool:
    branches = ((1, 2, 8), (1, 3, 3))
    return version >= (1, 4) or any(
        version[:2] == least[:2] and version >= least for least in branches
    )


def space_problems(root: Path) -> list[str]:
    """Nothing for a daemon elsewhere, whose disk can't be seen from here."""
    if not root.is_dir():
        return []
    free = shutil.disk_usage(root).free / 1024**3
    if free >= _FREE_GIB:
        return []
    return [f"{root} has {free:.1f} GiB free: make room for {_FREE_GIB} GiB."]


def component(version: Mapping[str, Any], name: str) -> str:
    """Version of a part of Docker; `unknown` if it isn't named."""
    parts = version.get("Components") or []
    return next((str(part["Version"]) for part in parts if part["Name"] == name), "unknown")


def version_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
