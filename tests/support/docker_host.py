"""A real Docker host for tests: the image is built once, leftovers are shown on failure, and nothing stays behind."""

import functools
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import pytest

from runner.docker.backend import DockerBackend
from runner.engine import Engine
from runner.errors import SandboxStartError
from runner.images.build import ensure_image

IMAGE_SECONDS = 600
"""For the first test that needs the image: where no registry answers, its base is made from packages."""


def require_docker() -> None:
    """Skips on a machine without Docker; fails where everything must run."""
    engine = Engine()
    try:
        engine.api().ping()
    except (docker.errors.DockerException, OSError) as exc:
        if os.environ.get("CI"):
            pytest.fail(f"Docker does not answer: {exc}")
        pytest.skip(f"Docker does not answer: {exc}")
    finally:
        engine.close()


@functools.cache
def default_image() -> str:
    require_docker()
    try:
        return ensure_image(progress=lambda _said: None)
    except SandboxStartError as exc:
        return pytest.fail(f"no image: {exc}")


@asynccontextmanager
async def docker_backend(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[DockerBackend, str]]:
    """A backend and an installation of its own."""
    require_docker()
    installation, host = f"test-{uuid.uuid4().hex[:12]}", "here"
    backend, engine = DockerBackend(), Engine()
    failed_before = request.session.testsfailed
    try:
        yield backend, installation
        if request.session.testsfailed > failed_before:
            _tell(engine.api(), installation)
    finally:
        there = await backend.leftovers(installation=installation, host=host)
        for leftover in [*there, *await backend.aside(installation=installation)]:
            await backend.discard(leftover)
        left = labelled(engine.api(), installation)
        backend.close()
        engine.close()
    assert left == []


def labelled(api: docker.APIClient, installation: str) -> list[str]:
    """Names of containers and volumes of an installation."""
    marks = {"label": f"errand.installation={installation}"}
    containers = [c["Names"][0] for c in api.containers(all=True, filters=marks)]
    return containers + [v["Name"] for v in api.volumes(filters=marks)["Volumes"] or []]


def _tell(api: docker.APIClient, installation: str) -> None:
    for name in labelled(api, installation):
        if not name.startswith("/"):
            continue
        try:
            found: dict[str, Any] = api.inspect_container(name[1:])
            log = api.logs(name[1:], stdout=True, stderr=True, tail=200).decode("utf-8", "replace")
        except docker.errors.APIError as exc:
            sys.stdout.write(f"--- {name}: {exc}\n")
            continue
        sys.stdout.write(f"--- {name}: {json.dumps(found['State'])}\n{log}\n")
        sys.stdout.write(f"{json.dumps(found, indent=1)}\n")


def make_mirror(folder: Path, *, said: str = "Begin") -> tuple[Path, str]:
    """A bare repository with one commit that containers can read, and the commit."""
    folder.chmod(0o755)
    mirror = folder / "mirror.git"
    _git("init", "--quiet", "--bare", "--initial-branch=main", str(mirror))
    tree = _git("--git-dir", str(mirror), "mktree", stdin="")
    person = ["-c", "user.name=dana", "-c", "user.email=dana@acme.test"]
    commit = _git("--git-dir", str(mirror), *person, "commit-tree", tree, "-m", said)
    _git("--git-dir", str(mirror), "update-ref", "refs/heads/main", commit)
    return mirror, commit


def _git(*arguments: str, stdin: str | None = None) -> str:
    git = shutil.which("git") or "git"
    done = subprocess.run(
        [git, *arguments], input=stdin, capture_output=True, check=True, text=True, timeout=30
    )
    return done.stdout.strip()
