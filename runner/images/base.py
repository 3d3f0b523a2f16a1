"""The image below all others: a local one, a pulled one, or one that is made here with debootstrap."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import docker
import requests
from docker.errors import APIError

from runner.errors import SandboxStartError

RELEASE: Final = "bookworm"
LOCAL: Final = f"errand-base:{RELEASE}"
PUBLIC: Final = f"debian:{RELEASE}-slim"
# debootstrap looks for packages by their own names only: cryptography asks for cffi-backend by another one.
_PACKAGES: Final = (
    "ca-certificates,curl,git,python3,python3-cffi-backend,python3-cryptography,python3-pip,"
    "python3-venv"
)
# Between two signs of life of a registry, not for the whole pull.
_PULL_SECONDS: Final = 20
_DEBOOTSTRAP_SECONDS: Final = 1200
_TAIL: Final = 2000


def find_image(api: docker.APIClient, tag: str) -> dict[str, Any] | None:
    """Docker's summary of it; None if it isn't on this host."""
    found: list[dict[str, Any]] = api.images(tag)
    return found[0] if found else None


def find_base(
    api: docker.APIClient, *, docker_host: str | None, progress: Callable[[str], None]
) -> str:
    """The name of an image to build on. Raises SandboxStartError that says what to install."""
    for name in (LOCAL, PUBLIC):
        if find_image(api, name):
            return name
    if _pull(docker_host, progress):
        return PUBLIC
    _make(api, progress)
    return LOCAL


def mirror_of(listing: str) -> str | None:
    """The Debian archive in a listing of apt's, lines of "uri codename component origin"."""
    found = [tuple(line.split()) for line in listing.splitlines()]
    targets = [entry[:3] for entry in found if len(entry) >= 3 and entry[2] == "main"]  # noqa: PLR2004 - the fields above
    for uri, codename, _ in targets:
        if codename == RELEASE:
            return uri
    # A later Debian has a bookworm in the same archive; a derivative has not.
    for entry in found:
        if entry[2:4] == ("main", "Debian") and "-" not in entry[1]:
            return entry[0]
    return None


def _pull(docker_host: str | None, progress: Callable[[str], None]) -> bool:
    progress(f"pulling {PUBLIC}")
    name, _, tag = PUBLIC.partition(":")
    api = docker.APIClient(base_url=docker_host, version="auto", timeout=_PULL_SECONDS)
    try:
        for step in api.pull(name, tag=tag, stream=True, decode=True):
            if "error" in step:
                progress(f"no base image from a registry: {step['error']}")
                return False
    except (APIError, requests.RequestException) as exc:
        progress(f"no base image from a registry: {exc}")
        return False
    finally:
        api.close()
    return True


def _make(api: docker.APIClient, progress: Callable[[str], None]) -> None:
    program, mirror = shutil.which("debootstrap"), _mirror()
    if program is None or mirror is None or os.geteuid() != 0:
        raise SandboxStartError(
            f"there is no base image: load {PUBLIC} into Docker (`docker load`), name one to "
            "build on, or install debootstrap on a Debian host and run `errand image build` as root"
        )
    progress(f"making {LOCAL} with debootstrap; this takes a few minutes, once")
    with tempfile.TemporaryDirectory(prefix="errand-base-") as folder:
        root = Path(folder) / "root"
        _debootstrap(
            [program, "--variant=minbase", f"--include={_PACKAGES}", RELEASE], root, mirror
        )
        _import(api, root)


def _mirror() -> str | None:
    apt = shutil.which("apt-get")
    if apt is None:
        return None
    fields = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)"
    listed = subprocess.run(  # noqa: S603 - fixed arguments
        [apt, "indextargets", "--format", fields, "Created-By: Packages"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    return mirror_of(listed.stdout)


def _debootstrap(command: list[str], root: Path, mirror: str) -> None:
    done = subprocess.run(  # noqa: S603 - fixed arguments, and what apt is configured to use
        [*command, str(root), mirror],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        timeout=_DEBOOTSTRAP_SECONDS,
    )
    if done.returncode != 0:
        raise SandboxStartError(f"debootstrap failed: {done.stdout[-_TAIL:].strip()}")


def _import(api: docker.APIClient, root: Path) -> None:
    left_out = ("./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*")
    tar = [shutil.which("tar") or "tar", "-C", str(root), "-c"]
    command = [*tar, *(f"--exclude={path}" for path in left_out), "."]
    name, _, tag = LOCAL.partition(":")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as packing:  # noqa: S603 - fixed arguments
        stream: IO[bytes] | None = packing.stdout
        api.import_image_from_stream(stream, repository=name, tag=tag)
    if packing.returncode != 0:
        raise SandboxStartError(f"tar failed with status {packing.returncode}")
