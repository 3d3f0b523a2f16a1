"""Reads what a push would change, with git's plumbing alone: nothing of the repository is checked out or run.

Used by the gateway's pre-receive hook and again by the host, so it takes the directory of a bare repository of ours.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.publish import Change, Entry
from runner.inside.errors import GitReadError

GIT_ENV: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_OUTPUT_BYTES = 64 * 1024 * 1024
_SECONDS = 60.0
_COMMITS = 5000
_DETAIL_CHARACTERS = 300
_TARGET_BYTES = 4096
_GITLINK, _SYMLINK = 0o160000, 0o120000
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_RAW = re.compile(rb":([0-7]{6}) ([0-7]{6}) ([0-9a-f]+) ([0-9a-f]+) ([A-Z])[0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    path: bytes
    old_mode: int
    new_mode: int
    blob: str
    status: str


class GitRead:
    """One bare repository. Every method raises GitReadError.

    `env` None inherits the caller's, as a hook must: it tells where the pushed objects wait.
    """

    def __init__(self, git_dir: Path, *, env: Mapping[str, str] | None = GIT_ENV) -> None:
        self._git_dir = git_dir
        self._env = env

    def run(
        self, *args: str, given: bytes = b"", ok: Iterable[int] = (0,), seconds: float = _SECONDS
    ) -> tuple[int, bytes]:
        """Status and standard output, with limits on time and size."""
        argv = ["git", "-c", "safe.bareRepository=explicit", f"--git-dir={self._git_dir}", *args]
        with subprocess.Popen(  # noqa: S603 - arguments are ours or checked object names
            argv,
            env=None if self._env is None else dict(self._env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as proc:
            try:
                out, err = proc.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired as exc:
                proc.kill()
                raise GitReadError(args[0], f"took more than {seconds:.0f} s") from exc
        if proc.returncode not in ok:
            detail = err.decode("utf-8", "replace").strip()[-_DETAIL_CHARACTERS:]
            raise GitReadError(args[0], detail or f"status {proc.returncode}")
        if len(out) > _OUTPUT_BYTES:
            raise GitReadError(args[0], "printed too much")
        return proc.returncode, out

    def change(self, *, base: str, head: str, refs: Sequence[str]) -> Change:
        """What lies between two commits, every commit on the way included."""
        if not _SHA.fullmatch(base) or not _SHA.fullmatch(head):
            return _empty(base=base, head=head, refs=refs)
        status, _ = self.run("merge-base", "--is-ancestor", base, head, ok=(0, 1))
        commits = self._commits(base, head)
        if len(commits) > _COMMITS:
            raise GitReadError("rev-list", f"there are more than {_COMMITS} commits")
        lines = _distinct([*self._between(base, head), *self._in(commits)])
        sizes = self._sizes(lines)
        return Change(
            base=base,
            head=head,
            refs=tuple(refs),
            descends=status == 0,
            commits=len(commits),
            entries=tuple(self._entries(lines, sizes)),
            total_bytes=sum(sizes.values()),
        )

    def _commits(self, base: str, head: str) -> list[str]:
        limit = f"--max-count={_COMMITS + 1}"
        _, out = self.run("rev-list", limit, f"{base}..{head}")
        return out.decode("ascii").split()

    def _between(self, base: str, head: str) -> list[_Line]:
        _, out = self.run("diff-tree", *_RAW_OPTIONS, base, head)
        return list(_lines(out))

    def _in(self, commits: Sequence[str]) -> list[_Line]:
        """Changes of single commits: what one adds and the next takes away is published too."""
        if len(commits) < 2:  # noqa: PLR2004 - the only commit is the whole change
            return []
        listed = "".join(f"{commit}\n" for commit in commits).encode("ascii")
        options = ("--stdin", "--no-commit-id", "--root", "-m")
        _, out = self.run("diff-tree", *_RAW_OPTIONS, *options, given=listed)
        return list(_lines(out))

    def _sizes(self, lines: Iterable[_Line]) -> dict[str, int]:
        """Sizes of the new blobs by their names."""
        blobs = {line.blob for line in lines if line.new_mode not in {0, _GITLINK}}
        listed = "".join(f"{blob}\n" for blob in blobs).encode("ascii")
        batch = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
        _, out = self.run("cat-file", batch, given=listed)
        rows = [row.split() for row in out.decode("ascii").splitlines()]
        if any(len(row) != len(_BATCH_FIELDS) or row[1] != "blob" for row in rows):
            raise GitReadError("cat-file", "an object of the change is missing or no file")
        return {blob: int(size) for blob, _, size in rows}

    def _entries(self, lines: Iterable[_Line], sizes: Mapping[str, int]) -> Iterator[Entry]:
        for line in lines:
            size = sizes.get(line.blob, 0) if line.new_mode else 0
            yield Entry(
                path=line.path,
                old_mode=line.old_mode,
                new_mode=line.new_mode,
                size=size,
                status=line.status,
                target=self._target(line, size),
            )

    def _target(self, line: _Line, size: int) -> bytes | None:
        if line.new_mode != _SYMLINK or size > _TARGET_BYTES:
            return None
        _, out = self.run("cat-file", "blob", line.blob)
        return out


_RAW_OPTIONS = ("-r", "-z", "--raw", "--no-renames", "--no-ext-diff", "--no-textconv")
_BATCH_FIELDS = ("name", "type", "size")


def _empty(*, base: str, head: str, refs: Sequence[str]) -> Change:
    return Change(
        base=base, head=head, refs=tuple(refs), descends=False, commits=0, entries=(), total_bytes=0
    )


def _lines(out: bytes) -> Iterator[_Line]:
    parts = out.split(b"\0")
    for raw, path in zip(parts[0::2], parts[1::2], strict=False):
        match = _RAW.fullmatch(raw)
        if match is None:
            raise GitReadError("diff-tree", "printed a line that is not understood")
        yield _Line(
            path=path,
            old_mode=int(match[1], 8),
            new_mode=int(match[2], 8),
            blob=match[4].decode("ascii"),
            status=match[5].decode("ascii"),
        )


def _distinct(lines: Iterable[_Line]) -> list[_Line]:
    """One line for each content of a path; a deletion counts where nothing else is said of the path."""
    found: dict[tuple[bytes, int, str], _Line] = {}
    for line in lines:
        found.setdefault((line.path, line.new_mode, line.blob), line)
    written = {line.path for line in found.values() if line.new_mode}
    return [line for line in found.values() if line.new_mode or line.path not in written]
