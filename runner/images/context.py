"""What an image is built from: the Dockerfile and the programs inside, out of this very package."""

import ast
import functools
import hashlib
import io
import tarfile
from collections.abc import Mapping
from importlib import resources
from typing import Final

DEFAULT: Final = "default"
CLAUDE_CODE: Final = "claude-code"
NODE: Final = "node"
OPENCODE: Final = "opencode"
PROGRAMS: Final = {NODE: "node", CLAUDE_CODE: "claude", OPENCODE: "opencode"}
"""Images with programs of their own, and the one of these that must run before an image counts as built."""
IMAGES: Final = (DEFAULT, *PROGRAMS)
"""What can be asked for."""
_PINS: Final = ("package.json", "package-lock.json")
"""What says which programs an image has besides Errand's: files in a directory of the image's name."""
_INSIDE: Final = "runner.inside"
_ROOMS: Final = ("runner", "policies")
_HASH_LENGTH: Final = 12


@functools.cache
def sources() -> dict[str, bytes]:
    """File name below /opt/errand to content: `runner.inside` and the modules of `policies` that it uses."""
    found: dict[str, bytes] = {f"{room}/__init__.py": b"" for room in _ROOMS}
    inside = resources.files(_INSIDE)
    waiting = [
        f"{_INSIDE}.{entry.name.removesuffix('.py')}"
        for entry in inside.iterdir()
        if entry.name.endswith(".py")
    ]
    while waiting:
        module = waiting.pop()
        name = f"{module.replace('.', '/')}.py"
        if name not in found:
            found[name] = _source(module)
            waiting += _imports(found[name])
    return dict(sorted(found.items()))


def dockerfile() -> bytes:
    return resources.files("runner.images").joinpath("Dockerfile").read_bytes()


@functools.cache
def code_hash() -> str:
    """Changes with the Dockerfile and with any program inside."""
    digest = hashlib.sha256(dockerfile())
    for name, content in sources().items():
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:_HASH_LENGTH]


@functools.cache
def pins(name: str) -> dict[str, bytes]:
    """The package file and lock file of an image's own programs; empty if it has none."""
    folder = resources.files("runner.images").joinpath(name)
    return {file: folder.joinpath(file).read_bytes() for file in _PINS} if folder.is_dir() else {}


def image_tag(name: str) -> str:
    """Changes with everything that the image is made from, but for its base."""
    own = _programs(name)
    return f"errand-{name}:{_hash(code_hash().encode(), *own) if own else code_hash()}"


def programs_tag(name: str) -> str:
    """The image below an image with programs of its own; changes with them, not with our code."""
    return f"errand-{name}-programs:{_hash(dockerfile(), *_programs(name))}"


def _programs(name: str) -> tuple[bytes, ...]:
    """What decides on an image's own programs; empty if it has none."""
    how = resources.files("runner.images").joinpath("programs.py").read_bytes()
    return (how, *pins(name).values()) if pins(name) else ()


def current_tags() -> frozenset[str]:
    """All that images of this code may be called."""
    return frozenset({image_tag(name) for name in IMAGES}) | frozenset(
        programs_tag(name) for name in IMAGES if pins(name)
    )


def context(host: Mapping[str, bytes]) -> bytes:
    """The build context as a tar file; the same bytes for the same sources and files of this host."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add_sources(archive, host)
        # The classic builder runs every stage before the one that is asked for, with nothing to copy.
        _add_folder(archive, "programs")
    return buffer.getvalue()


def add_sources(archive: tarfile.TarFile, host: Mapping[str, bytes]) -> None:
    """What all images are made from."""
    _add(archive, "Dockerfile", dockerfile())
    for name, content in sources().items():
        _add(archive, f"opt/errand/{name}", content)
    _add_folder(archive, "host")
    for name, content in sorted(host.items()):
        _add(archive, f"host/{name}", content)


def _hash(*parts: bytes) -> str:
    whole = b"".join(b"%d\0%b" % (len(part), part) for part in parts)
    return hashlib.sha256(whole).hexdigest()[:_HASH_LENGTH]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    archive.addfile(entry, io.BytesIO(content))


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)


def _source(module: str) -> bytes:
    package, _, name = module.rpartition(".")
    return resources.files(package).joinpath(f"{name}.py").read_bytes()


def _imports(source: bytes) -> list[str]:
    """The modules of our rooms that a source imports."""
    named: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            named += whole if node.module in (*_ROOMS, _INSIDE) else [node.module]
    return [name for name in named if name.startswith((f"{_INSIDE}.", "policies."))]
