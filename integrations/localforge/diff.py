"""A patch, cut into files and lines that a page can show: pure. What it reads is untrusted."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_FILES = 100
MAX_LINES = 600
"""Per file."""
MAX_WIDTH = 400


class Kind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    SAME = "same"
    HUNK = "hunk"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffLine:
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiff:
    path: str
    added: int
    removed: int
    lines: tuple[DiffLine, ...]
    hidden: int
    """Lines that are not shown."""


_KINDS = {
    "+": Kind.ADDED,
    "-": Kind.REMOVED,
    " ": Kind.SAME,
    "@": Kind.HUNK,
    "\\": Kind.NOTE,
}
_START = "diff --git "
_NOTES = ("new file mode ", "deleted file mode ", "old mode ", "new mode ", "Binary files ")


def visible(text: str) -> str:
    """Characters that hide or turn text are shown by their code."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in {"Cc", "Cf"} and c not in "\t\n" else c
        for c in text
    )


def parse(patch: str) -> list[FileDiff]:
    return [_file(header, body) for header, body in _sections(patch.split("\n"))]


def _sections(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    header: str | None = None
    body: list[str] = []
    for line in lines:
        # A line of content always has a sign before it, so this one is git's own.
        if line.startswith(_START):
            if header is not None:
                yield header, body
            header, body = line, []
        else:
            body.append(line)
    if header is not None:
        yield header, body


def _file(header: str, body: list[str]) -> FileDiff:
    hunks = next((i for i, line in enumerate(body) if line.startswith("@@")), len(body))
    notes = [line for line in body[:hunks] if line.startswith(_NOTES)]
    shown = [DiffLine(kind=Kind.NOTE, text=visible(line)) for line in notes]
    content = [line for line in body[hunks:] if line]
    shown += [_line(line) for line in content[:MAX_LINES]]
    return FileDiff(
        path=visible(_path(header)),
        added=sum(line.startswith("+") for line in content),
        removed=sum(line.startswith("-") for line in content),
        lines=tuple(shown),
        hidden=max(0, len(content) - MAX_LINES),
    )


def _path(header: str) -> str:
    """Without renames both halves are the same name, so that a space in it does no harm."""
    names = header.removeprefix(_START)
    half = names[: (len(names) - 1) // 2].strip('"')
    return half.removeprefix("a/")


def _line(line: str) -> DiffLine:
    kind = _KINDS.get(line[0], Kind.NOTE)
    text = line if kind in {Kind.HUNK, Kind.NOTE} else line[1:]
    # A carriage return at the end is a kind of line end, not a trick.
    text = visible(text.removesuffix("\r"))
    return DiffLine(kind=kind, text=text[:MAX_WIDTH] + ("…" if len(text) > MAX_WIDTH else ""))
