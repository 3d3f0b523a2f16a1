"""What a worker keeps of a run on its disk, so that its successor can go on: `<data>/runs/<task>-<fence>/`."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict

from policies.hosts import EgressRule
from runner.errors import WorkspaceError
from runner.protocol import RepoSettings, RunKey
from runner.sandbox import Line, Role

ASIDE: Final = "aside"
"""The directory beside that of the runs."""
Name = Literal["launch", "prepared", "started", "ending"]
_Model = TypeVar("_Model", bound=BaseModel)
_DIRECTORY = re.compile(r"(?P<task>[A-Za-z0-9][A-Za-z0-9_]{0,63})-(?P<fence>[1-9][0-9]{0,8})")
_ROLES: Final[tuple[Role, ...]] = get_args(Role)


class Prepared(BaseModel):
    """What was settled before the containers were made, and must stay as it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base_commit: str
    """What the forge has: the commits after it are judged and published."""
    start_commit: str = ""
    """What the workspace begins with; empty: the base."""
    settings: RepoSettings
    agent: str
    image: str
    hosts: tuple[EgressRule, ...] = ()
    """What the profiles of the launch came to, by what the image says."""
    empty_profiles: tuple[str, ...] = ()
    """Those for which it says nothing."""


class RunDir:
    """The files of one run, readable for us alone. A file is there whole or not at all."""

    def __init__(self, root: Path, run: RunKey) -> None:
        name = f"{run.task}-{run.fence}"
        if not _DIRECTORY.fullmatch(name):
            raise WorkspaceError(f"{name[:80]!r} cannot name a run")
        self.path = root / name

    def read(self, name: Name, model: type[_Model]) -> _Model | None:
        try:
            content = (self.path / f"{name}.json").read_bytes()
        except FileNotFoundError:
            return None
        return model.model_validate_json(content)

    def write(self, name: Name, value: BaseModel) -> None:
        self._make()
        path = self.path / f"{name}.json"
        draft = path.with_suffix(".draft")
        with _private(draft) as file:
            file.write(value.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def keep_aside(self) -> None:
        """Note that the run's sandbox is set aside, or about to be: nothing of it is removed any more."""
        self._make()
        (self.path / ASIDE).touch()

    def is_kept_aside(self) -> bool:
        return (self.path / ASIDE).exists()

    def set_aside(self) -> None:
        """Move it to where no worker looks for runs. Safe twice."""
        target = self.path.parent.with_name(ASIDE) / self.path.name
        if target.exists() and self._is_bare():
            self.remove()
        elif self.path.exists():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            self.path.replace(target)
            (target / ASIDE).unlink(missing_ok=True)  # whoever puts it back, wants it gone on with

    def _is_bare(self) -> bool:
        """Nothing is there but the mark: the rest was moved before."""
        return self.is_kept_aside() and len(list(self.path.iterdir())) == 1

    def remove(self) -> None:
        """Safe twice."""
        shutil.rmtree(self.path, ignore_errors=True)

    def create(self, name: Literal["transcript", "bundle"]) -> BinaryIO:
        """An empty file, in the place of an older one."""
        self._make()
        return _private(self.path / name)

    def file(self, name: Literal["transcript", "bundle"]) -> Path:
        return self.path / name

    def keep_picture(self, name: str, content: bytes) -> None:
        self._make()
        draft = self.path / "picture.draft"
        with _private(draft) as file:
            file.write(content)
        draft.replace(self._picture(name))

    def picture(self, name: str) -> bytes | None:
        path = self._picture(name)
        return path.read_bytes() if path.exists() else None

    def _picture(self, name: str) -> Path:
        return self.path / f"picture-{name}"

    def packed_transcript(self) -> Path:
        """The transcript, gzipped; empty if there is none."""
        packed = self.path / "transcript.gz"
        with _private(packed) as out, gzip.open(out, "wb") as target:
            if self.file("transcript").exists():
                with self.file("transcript").open("rb") as source:
                    shutil.copyfileobj(source, target)
        return packed

    def told(self) -> Iterator[tuple[Role, Line]]:
        """The transcript line by line, as far as it was written whole."""
        if not self.file("transcript").exists():
            return
        with self.file("transcript").open("rb") as file:
            for text in file:
                if not text.endswith(b"\n"):
                    return
                record = json.loads(text)
                role = record.pop("role")
                if role in _ROLES:
                    yield role, Line.model_validate(record)

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)


def known_runs(root: Path) -> set[RunKey]:
    """Runs that have a directory."""
    names = [entry.name for entry in root.iterdir()] if root.exists() else []
    matches = [found for name in names if (found := _DIRECTORY.fullmatch(name))]
    return {RunKey(task=found["task"], fence=int(found["fence"])) for found in matches}


def transcript_line(role: Role, line: Line) -> bytes:
    record = {"role": role, **line.model_dump(mode="json")}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _private(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "wb")
