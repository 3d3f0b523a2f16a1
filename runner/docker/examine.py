"""What `errand doctor` says about a Docker host."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import docker
import structlog

log = structlog.get_logger()

_OLDEST_ENGINE: Final = (20, 10)
_FREE_GIB: Final = 5
_LIMITS: Final[Mapping[str, str]] = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap (boot with swapaccount=1, or use cgroup v2)",
    "PidsLimit": "processes",
    "CpuCfsQuota": "processor time",
}


def examine(api: docker.APIClient, *, image: str) -> list[str]:
    """Blocking. Problems, each with what to do."""
    info, version = api.info(), api.version()
    log.info("docker_examined", engine=info["ServerVersion"], runc=component(version, "runc"))
    problems = daemon_problems(info)
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
