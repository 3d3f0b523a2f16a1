"""A backup as a file: a compressed tar whose last member names all others with their hashes."""

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

from bot.errors import SetupError

MANIFEST: Final = "manifest.json"
PASSING: Final = (".incoming-", "incoming-", "tmp_obj_", "tmp_pack_", "tmp_idx_")
"""How files begin that somebody is about to write."""
LEVEL: Final = 6


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    errand: str
    revision: str
    """The schema's."""
    at: datetime
    files: dict[str, str]
    """SHA-256 by name."""


class Archive:
    """Writes one. What vanishes while it is read is left out; a name is taken once."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz", compresslevel=LEVEL)  # noqa: SIM115 - closed by `close`
        self.files: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self._file.close()

    def add(self, path: Path, name: str) -> None:
        """One file, as it is at this moment."""
        if name in self.files:
            return
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            member = self._tar.gettarinfo(arcname=name, fileobj=file)
            reader = _Hashing(file)
            self._tar.addfile(_plain(member), reader)
            self.files[name] = reader.digest()

    def add_tree(self, root: Path, name: str) -> None:
        """A directory. Where it holds git repositories, what refers comes before what is referred to."""
        for path in sorted(_tree(root), key=lambda path: ("objects" in path.parts, path)):
            inner = f"{name}/{path.relative_to(root)}" if path != root else name
            if path.is_dir():
                self._tar.addfile(_plain(self._tar.gettarinfo(path, arcname=inner)))
            else:
                self.add(path, inner)

    def close(self, manifest: Manifest) -> None:
        """Write the last member; then all of it is on disk."""
        content = manifest.model_dump_json(indent=1).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class _Hashing(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    @override
    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hash.update(piece)
        return piece

    def digest(self) -> str:
        return self._hash.hexdigest()


def _tree(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(PASSING)]
        yield Path(folder)
        for name in names:
            path = Path(folder, name)
            lasting = not name.startswith(PASSING) and not name.endswith(".lock")
            if lasting and path.is_file() and not path.is_symlink():
                yield path


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def unpack(source: Path, target: Path) -> Manifest:
    """Unpack an archive into an empty directory, and check every byte of it.

    Raises:
        SetupError: it can't be read, is damaged, or is of another version.
    """
    try:
        with tarfile.open(source, "r:gz") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise SetupError(f"{source} is no backup of Errand's: {member.name}")
                tar.extract(member, target, filter="data")
        manifest = Manifest.model_validate_json((target / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise SetupError(f"{source} is not there, or its end is missing") from error
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise SetupError(f"{source} can't be unpacked: {error}") from error
    except ValidationError as error:
        raise SetupError(
            f"{source} was not made by this version of Errand, or is damaged"
        ) from error
    (target / MANIFEST).unlink()
    _check(source, target, manifest)
    return manifest


def _check(source: Path, target: Path, manifest: Manifest) -> None:
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    wrong = sorted(found ^ manifest.files.keys())
    wrong += [
        n for n in sorted(found & manifest.files.keys()) if _sha256(target / n) != manifest.files[n]
    ]
    if wrong:
        raise SetupError(f"{source} is damaged: {', '.join(wrong[:5])}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
