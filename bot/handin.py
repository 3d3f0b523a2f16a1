"""What workers hand in: bundles and transcripts, as files in the data directory."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from pydantic import BaseModel, ConfigDict, Field

from runner.protocol import RunKey

MAX_BUNDLE_BYTES = 512 * 2**20
MAX_TRANSCRIPT_BYTES = 64 * 2**20


class TooLargeError(Exception):
    """More bytes than the limit; nothing was kept."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class HandIn(BaseModel):
    """Commits that a run handed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(pattern=r"^[0-9a-f]{40}$")
    head: str = Field(pattern=r"^[0-9a-f]{40}$")


@dataclass(frozen=True, slots=True)
class HandIns:
    """The files, by run. Writing is atomic and safe twice."""

    root: Path

    def bundle(self, run: RunKey) -> Path:
        return self._path("bundles", run, "bundle")

    def transcript(self, run: RunKey) -> Path:
        return self._path("transcripts", run, "jsonl.gz")

    def _path(self, kind: str, run: RunKey, suffix: str) -> Path:
        return self.root / kind / f"{run.task}-{run.fence}.{suffix}"

    async def keep_bundle(self, run: RunKey, hand_in: HandIn, body: AsyncIterator[bytes]) -> None:
        await _write(self.bundle(run), body, limit=MAX_BUNDLE_BYTES)
        note = self._path("bundles", run, "json")
        note.write_text(hand_in.model_dump_json())

    async def keep_transcript(self, run: RunKey, body: AsyncIterator[bytes]) -> None:
        await _write(self.transcript(run), body, limit=MAX_TRANSCRIPT_BYTES)

    def hand_in(self, run: RunKey) -> HandIn:
        """What was handed in; `FileNotFoundError` if nothing was."""
        return HandIn.model_validate_json(self._path("bundles", run, "json").read_text())

    def forget_bundle(self, run: RunKey) -> None:
        """Drop the bundle of a run whose commits are published."""
        self.bundle(run).unlink(missing_ok=True)
        self._path("bundles", run, "json").unlink(missing_ok=True)


async def _write(path: Path, body: AsyncIterator[bytes], *, limit: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _replacing(path) as file:
        size = 0
        async for piece in body:
            size += len(piece)
            if size > limit:
                raise TooLargeError(limit)
            file.write(piece)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path`, whole and on disk, when the block ends well."""
    with NamedTemporaryFile(dir=path.parent, prefix=".incoming-", delete=False) as file:
        partial = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
