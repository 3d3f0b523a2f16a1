"""What workers hand in, bundles and transcripts, and pictures that they fetch: files in the data directory."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.protocol import RunKey

PICTURES = "pictures"
MAX_BUNDLE_BYTES = 512 * 2**20
MAX_TRANSCRIPT_BYTES = 64 * 2**20


class TooLargeError(Exception):
    """More bytes than the limit; nothing was kept."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class NothingHandedInError(Exception):
    """There are no commits of this run, or they are damaged."""


class HandIn(BaseModel):
    """Commits that a run handed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(pattern=r"^[0-9a-f]{40}$")
    head: str = Field(pattern=r"^[0-9a-f]{40}$")


@dataclass(frozen=True, slots=True)
class HandIns:
    """The files, by run. Writing is atomic and safe twice."""

    root: Path
    max_bundle_bytes: int = MAX_BUNDLE_BYTES
    max_transcript_bytes: int = MAX_TRANSCRIPT_BYTES

    def bundle(self, run: RunKey) -> Path:
        return self._path("bundles", run, "bundle")

    def transcript(self, run: RunKey) -> Path:
        return self._path("transcripts", run, "jsonl.gz")

    def _path(self, kind: str, run: RunKey, suffix: str) -> Path:
        return self.root / kind / f"{run.task}-{run.fence}.{suffix}"

    async def keep_bundle(self, run: RunKey, hand_in: HandIn, body: AsyncIterator[bytes]) -> None:
        await _write(self.bundle(run), body, limit=self.max_bundle_bytes)
        with _replacing(self._note(run)) as file:
            file.write(hand_in.model_dump_json().encode())
            await asyncio.to_thread(_settle, file)

    async def keep_transcript(self, run: RunKey, body: AsyncIterator[bytes]) -> None:
        await _write(self.transcript(run), body, limit=self.max_transcript_bytes)

    async def keep_picture(self, content: bytes) -> str:
        """One that came with a request; its name."""
        name = hashlib.sha256(content).hexdigest()

        async def whole() -> AsyncIterator[bytes]:
            yield content

        await _write(self.picture(name), whole(), limit=len(content))
        return name

    def picture(self, name: str) -> Path:
        return self.root / PICTURES / name

    def hand_in(self, run: RunKey) -> HandIn:
        """What was handed in.

        Raises:
            NothingHandedInError: nothing was, or it is damaged.
        """
        try:
            found = HandIn.model_validate_json(self._note(run).read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise NothingHandedInError(str(run)) from error
        if not self.bundle(run).is_file():
            raise NothingHandedInError(str(run))
        return found

    def forget_bundle(self, run: RunKey) -> None:
        """Drop the bundle of a run whose commits are published."""
        self.bundle(run).unlink(missing_ok=True)
        self._note(run).unlink(missing_ok=True)

    def _note(self, run: RunKey) -> Path:
        return self._path("bundles", run, "json")


async def _write(path: Path, body: AsyncIterator[bytes], *, limit: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _replacing(path) as file:
        size = 0
        async for piece in body:
            size += len(piece)
            if size > limit:
                raise TooLargeError(limit)
            file.write(piece)
        await asyncio.to_thread(_settle, file)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well; `_settle` it at its end."""
    with NamedTemporaryFile(dir=path.parent, prefix=".incoming-", delete=False) as file:
        partial = Path(file.name)
        try:
            yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _settle(file: IO[bytes]) -> None:
    """Whole and on disk."""
    file.flush()
    os.fsync(file.fileno())
