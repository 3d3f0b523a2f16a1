"""What the figures were measured on: machine, versions, commit."""

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import docker

from tests.bench.figures import Figure, Machine, Results

ROOT = Path(__file__).parents[2]
PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "slack-bolt", "arq", "redis", "pydantic", "docker")


def results_of(figures: Sequence[Figure], *, load_before: float) -> Results:
    return Results(
        at=datetime.now(UTC).replace(microsecond=0),
        commit=_git("rev-parse", "HEAD"),
        changed=bool(_git("status", "--porcelain", "--untracked-files=no")),
        machine=Machine(
            system=f"{platform.system()} {platform.release()}",
            cpu=_cpu(),
            cores=os.cpu_count() or 0,
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            load_before=round(load_before, 2),
            load_after=round(os.getloadavg()[0], 2),
        ),
        versions=_versions(),
        figures=tuple(figures),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    with closing(docker.from_env()) as client:
        found["docker engine"] = str(client.api.version()["Version"])
    return found | {name: version(name) for name in PACKAGES}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git(*arguments: str) -> str:
    git = shutil.which("git") or "git"
    done = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
