"""The older part of the audit record, in files: JSON lines that go on where the file before ends."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bot.store.audit import Checkpoint, broken

FOLDER: Final = "audit"
"""In the data directory."""


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write a file whole or not at all; its SHA-256."""
    lines = b"".join(json.dumps(dict(row), sort_keys=True).encode() + b"\n" for row in rows)
    packed = gzip.compress(lines, mtime=0)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".incoming-{path.name}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return hashlib.sha256(packed).hexdigest()


def verify(folder: Path, cuts: Sequence[Checkpoint]) -> dict[str, str]:
    """What is wrong with each file, oldest first; empty where it is as it was written, and goes on from the one before."""
    before = (None, *cuts)
    return {cut.file: _fault(folder, cut, after) for cut, after in zip(cuts, before, strict=False)}


def _fault(folder: Path, cut: Checkpoint, after: Checkpoint | None) -> str:
    try:
        packed = (folder / cut.file).read_bytes()
    except FileNotFoundError:
        return "it is not here"
    if hashlib.sha256(packed).hexdigest() != cut.sha256:
        return "its content is not what was written"
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    if not rows or (rows[-1]["id"], rows[-1]["hash"]) != (cut.upto, cut.hash):
        return "it does not end where the record goes on"
    return broken(rows, after=after)
