"""What may leave a run as a commit. Standard library only: the gateway's image gets a copy.

Judged from git's plumbing alone, before a push is accepted and again before we push. Nothing here
raises, whatever the change looks like.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

ALWAYS_PROTECTED = (".github/workflows/**", ".gitmodules")
MAX_OBJECTIONS = 50

_ABSENT = 0
_FILE, _PROGRAM, _FOLDER, _SYMLINK, _GITLINK = 0o100644, 0o100755, 0o040000, 0o120000, 0o160000
_MODES = frozenset({_ABSENT, _FILE, _PROGRAM, _FOLDER, _SYMLINK})
_LINK_FREE = frozenset({".gitattributes", ".gitignore", ".mailmap", ".gitmodules"})
_REPOSITORY_PARTS = frozenset({"objects", "refs", "hooks"})
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_GIT = re.compile(r"git~[0-9]+")
_MAX_NAME, _MAX_PATH, _MAX_SHOWN = 255, 4096, 200
# HFS+ leaves these out when it compares names.
_IGNORABLE = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRules:
    protected: tuple[str, ...] = ()
    """Path patterns besides `ALWAYS_PROTECTED`. `**` stands for any folders; a pattern without a
    slash holds in every folder; what is below a path that matches is protected too; capitals do
    not count."""
    max_files: int = 200
    max_bytes: int = 5_000_000
    max_commits: int = 100
    max_blob_bytes: int | None = None
    """None: as `max_bytes`."""
    ref: str | None = None
    """The only ref that may be pushed; None for any one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of `git diff-tree -r -z --raw --no-renames`, and the blob's size.

    A path may come several times, once for each content that one of the commits gives it.
    """

    path: bytes
    old_mode: int
    """0o100644 and so on; 0 where the file did not exist."""
    new_mode: int
    """0 where the file is deleted."""
    size: int
    status: str
    target: bytes | None = None
    """What a symbolic link (new_mode 0o120000) points to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    base: str
    head: str
    refs: tuple[str, ...]
    descends: bool
    """`head` has `base` among its ancestors."""
    commits: int
    entries: tuple[Entry, ...]
    total_bytes: int
    """Sum of the sizes of the new blobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    rule: str
    path: str
    """Fit to be shown; empty where the objection is not about one path."""
    sentence: str


def judge(change: Change, *, limits: PublishRules) -> tuple[Objection, ...]:
    """What stands against publishing this change; nothing if it may go."""
    globs = [_Glob(text) for text in dict.fromkeys([*ALWAYS_PROTECTED, *limits.protected])]
    largest = limits.max_bytes if limits.max_blob_bytes is None else limits.max_blob_bytes
    files = len({entry.path for entry in change.entries})
    # Too many files are refused by their number; looking at all of them is not worth the time.
    entries = change.entries if files <= limits.max_files else change.entries[:MAX_OBJECTIONS]
    found = [
        *_about_the_push(change, limits),
        *_about_sizes(change, limits, files=files),
        *_embedded_repositories(entries),
        *chain.from_iterable(_about(entry, globs, largest) for entry in entries),
    ]
    if len(found) <= MAX_OBJECTIONS:
        return tuple(found)
    more = f"{len(found) - MAX_OBJECTIONS} more objections are not listed."
    return (*found[:MAX_OBJECTIONS], Objection(rule="more", path="", sentence=more))


def rules_from_json(data: object) -> PublishRules | None:
    """Rules from a mapping with (some of) the fields of `PublishRules`; None if anything is not right."""
    if not isinstance(data, dict) or not data.keys() <= PublishRules.__dataclass_fields__.keys():
        return None
    protected, ref = data.get("protected", ()), data.get("ref")
    numbers = {key: value for key, value in data.items() if key not in {"protected", "ref"}}
    if numbers.get("max_blob_bytes", 0) is None:
        del numbers["max_blob_bytes"]
    if not isinstance(protected, list | tuple) or not isinstance(ref, str | None):
        return None
    if not all(isinstance(glob, str) for glob in protected):
        return None
    if not all(type(number) is int and number >= 0 for number in numbers.values()):
        return None
    return PublishRules(protected=tuple(protected), ref=ref, **numbers)


def _about_the_push(change: Change, limits: PublishRules) -> Iterator[Objection]:
    wanted = limits.ref or "one branch"
    if len(change.refs) != 1:
        yield _general(
            "ref", f"Push {wanted} and nothing else; this push has {len(change.refs)} refs."
        )
    elif limits.ref is not None and change.refs != (limits.ref,):
        yield _general("ref", f"Push to {limits.ref}, not to {_shown(change.refs[0])}.")
    if not _COMMIT.fullmatch(change.base) or not _COMMIT.fullmatch(change.head):
        yield _general("ancestry", "The push does not name whole commits.")
    elif not change.descends:
        yield _general(
            "ancestry",
            f"The commits do not descend from {change.base[:12]}, where this task began;"
            " rebase them onto it and push again.",
        )


def _about_sizes(change: Change, limits: PublishRules, *, files: int) -> Iterator[Objection]:
    for rule, found, allowed, what in (
        ("max_commits", change.commits, limits.max_commits, "commits; squash them"),
        ("max_files", files, limits.max_files, "files; change fewer"),
        ("max_bytes", change.total_bytes, limits.max_bytes, "bytes; leave large files out"),
    ):
        if found > allowed:
            sentence = f"The change has {found} {what} (at most {allowed} are allowed)."
            yield _general(rule, sentence)


def _about(entry: Entry, globs: "list[_Glob]", largest: int) -> Iterator[Objection]:
    names = _names(entry.path)
    for glob in globs:
        if glob.covers(names) or (entry.new_mode == _SYMLINK and glob.is_below(names)):
            sentence = f"is protected by {glob.text}; undo the change of it"
            yield _objection(entry, "protected", f"{sentence} (a person may change the policy)")
            break
    if entry.new_mode != _ABSENT:
        yield from _about_the_name(entry)
        yield from _about_the_content(entry, largest)


def _about_the_name(entry: Entry) -> Iterator[Objection]:
    if _is_odd(entry.path):
        yield _objection(entry, "name", "has a name that not every system can store; rename it")
    elif any(_is_git(name) for name in re.split(rb"[/\\]", entry.path)):
        yield _objection(entry, "name", "has .git or .. in its path, which git itself may obey")


def _is_odd(path: bytes) -> bool:
    names = path.split(b"/")
    if len(path) > _MAX_PATH or any(not name or len(name) > _MAX_NAME for name in names):
        return True
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return True
    return any(unicodedata.category(letter) == "Cc" or letter in _TURNING for letter in text)


def _is_git(name: bytes) -> bool:
    folded = _folded(name)
    # Folding takes dots and spaces from the end, so . and .. and their like leave nothing.
    return folded in {"", ".git"} or _SHORT_GIT.fullmatch(folded) is not None


def _about_the_content(entry: Entry, largest: int) -> Iterator[Objection]:
    if entry.new_mode == _GITLINK:
        yield _objection(
            entry, "submodule", "is a submodule; add the files themselves or leave it out"
        )
    elif entry.new_mode not in _MODES:
        yield _objection(entry, "mode", f"has the mode {entry.new_mode:o}; use 100644 or 100755")
    elif entry.new_mode == _SYMLINK and (why := _bad_link(entry)):
        yield _objection(entry, "symlink", f"is a symbolic link {why}; replace it by a file")
    if entry.size > largest:
        yield _objection(
            entry, "max_blob_bytes", f"has {entry.size} bytes (at most {largest}); leave it out"
        )


def _bad_link(entry: Entry) -> str | None:
    """Why this link is refused. `..` counts at the beginning only: after another link it would mislead."""
    target = entry.target
    if not target or _is_odd(target.rstrip(b"/")) or b"\\" in target or b":" in target:
        return "whose target cannot be trusted"
    steps = [step for step in target.rstrip(b"/").split(b"/") if step != b"."]
    ups = next((i for i, step in enumerate(steps) if step != b".."), len(steps))
    folders = entry.path.split(b"/")[:-1]
    if ups > len(folders) or b".." in steps[ups:]:
        return "that leads out of the repository"
    if any(_is_git(step) for step in steps[ups:]):
        return "into .git"
    ends = [entry.path.split(b"/")[-1], *steps[ups:][-1:]]
    if any(_folded(end) in _LINK_FREE for end in ends):
        return "for a file that git reads by itself"
    return None


def _embedded_repositories(entries: Iterable[Entry]) -> Iterator[Objection]:
    """Folders that git would take for a repository, with a configuration that runs programs."""
    paths = [_names(entry.path) for entry in entries if entry.new_mode != _ABSENT]
    heads = {names[:-1] for names in paths if names[-1] == "head"}
    inside = {
        names[:depth]
        for names in paths
        for depth, name in enumerate(names)
        if name in _REPOSITORY_PARTS and names[:depth] in heads
    }
    for folder in sorted(inside):
        path = _shown("/".join(folder)) or "."
        sentence = f"{path} looks like a git repository inside the repository; leave it out."
        yield Objection(rule="embedded", path=path, sentence=sentence)


class _Glob:
    """A path pattern, matched part by part so that no path makes it slow."""

    def __init__(self, text: str) -> None:
        self.text = text
        parts = [part for part in text.split("/") if part]
        if "/" not in text.rstrip("/"):
            parts = ["**", *parts]
        self._parts = tuple(
            p if p == "**" else _folded(p.encode("utf-8", "backslashreplace")) for p in parts
        )

    def covers(self, names: tuple[str, ...]) -> bool:
        """The pattern fits the path or a folder above it."""
        reached = self._open({0})
        for name in names:
            stepped = {i for i in reached if i < len(self._parts) and self._parts[i] == "**"}
            stepped |= {i + 1 for i in reached - stepped if self._fits(i, name)}
            reached = self._open(stepped)
            if len(self._parts) in reached:
                return True
        return False

    def is_below(self, names: tuple[str, ...]) -> bool:
        """What the pattern fits lies below this path: a link there could stand in for it."""
        above = self._parts[: len(names)]
        return "**" not in above and all(
            fnmatch.fnmatchcase(name, part) for name, part in zip(names, above, strict=False)
        )

    def _fits(self, i: int, name: str) -> bool:
        return i < len(self._parts) and fnmatch.fnmatchcase(name, self._parts[i])

    def _open(self, reached: set[int]) -> set[int]:
        """`**` may stand for no folder at all."""
        opened = set(reached)
        for i, part in enumerate(self._parts):
            if part == "**" and i in opened:
                opened.add(i + 1)
        return opened


def _names(path: bytes) -> tuple[str, ...]:
    return tuple(_folded(name) for name in path.split(b"/"))


def _folded(name: bytes) -> str:
    """As the least careful file system reads it: no capitals, no stream, no dots at the end."""
    text = name.decode("utf-8", "backslashreplace").translate(_IGNORABLE)
    return unicodedata.normalize("NFC", text).casefold().partition(":")[0].rstrip(" .")


def _shown(path: bytes | str) -> str:
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else path
    letters = text[: _MAX_SHOWN + 1]
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in letters)
    return plain if len(plain) <= _MAX_SHOWN else plain[: _MAX_SHOWN - 1] + "…"


def _general(rule: str, sentence: str) -> Objection:
    return Objection(rule=rule, path="", sentence=sentence)


def _objection(entry: Entry, rule: str, rest: str) -> Objection:
    path = _shown(entry.path)
    return Objection(rule=rule, path=path, sentence=f"{path} {rest}.")
