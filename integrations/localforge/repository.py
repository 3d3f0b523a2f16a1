"""A bare repository on this disk, by git's plumbing: blocking calls, no worktree, nobody's configuration."""

import contextlib
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from integrations.errors import RejectedError, UnavailableError

SERVICE: Final = "local forge"
MAX_DIFF = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_PATH = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./-]*")
_SECONDS = 20
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
_CONFIG = (
    ("core.hooksPath", "/dev/null"),
    ("transfer.fsckObjects", "true"),
    ("receive.autogc", "false"),
    ("gc.auto", "0"),
    ("log.showSignature", "false"),
)
_FIELD, _RECORD = "\x1f", "\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    sha: str
    author: str
    at: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    name: str
    sha: str
    subject: str


class Repository:
    """Errors of every method: `RejectedError` for a name that is not there, `UnavailableError` where git fails."""

    def __init__(self, root: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise RejectedError(SERVICE, "a repository is named owner/name")
        self.name = name
        self.path = root.absolute() / f"{name}.git"

    def opened(self) -> "Repository":
        if not (self.path / "HEAD").is_file():
            raise RejectedError(SERVICE, f"there is no repository {self.name}")
        return self

    def create(self, files: Mapping[str, str], *, branch: str, message: str) -> None:
        """With one commit that holds these files; a file that begins with `#!` may be executed.

        Safe twice: what is there stays as it is, and nobody sees a half-made repository.
        """
        if (self.path / "HEAD").is_file():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".new-") as parent:
            made = Path(parent, "repository")
            _git(made, "init", "--bare", "--quiet", "--template=", f"--initial-branch={branch}")
            for key, value in _CONFIG:
                _git(made, "config", key, value)
            _git(made, "fast-import", "--quiet", stdin=_import_stream(files, branch, message))
            # It fails if another process was faster: then its repository is the one.
            with contextlib.suppress(OSError):
                made.rename(self.path)

    def default_branch(self) -> str:
        return self._git("symbolic-ref", "--short", "HEAD").strip()

    def branches(self) -> list[Branch]:
        form = _FIELD.join(["%(refname:lstrip=2)", "%(objectname)", "%(contents:subject)"])
        lines = self._git(
            "for-each-ref", f"--format={form}", "--count=200", "--sort=-committerdate", "refs/heads"
        )
        # Only a line feed ends a line here: a subject may hold whatever else Python takes for one.
        parts = [line.split(_FIELD, 2) for line in lines.split("\n") if line]
        return [Branch(name=name, sha=sha, subject=subject) for name, sha, subject in parts]

    def has_branch(self, name: str) -> bool:
        # for-each-ref takes a pattern, so its answer is compared.
        listed = self._git("for-each-ref", "--format=%(refname)", f"refs/heads/{name}")
        return f"refs/heads/{name}" in listed.split("\n")

    def commits(self, *, base: str, head: str) -> list[Commit]:
        """What is on `head` and not on `base`, oldest first."""
        form = _FIELD.join(["%H", "%an", "%ad", "%s"])
        listed = self._git(
            "log", "-z", f"--format={form}", "--date=format:%Y-%m-%d %H:%M", "--reverse",
            "--max-count=200", f"refs/heads/{base}..refs/heads/{head}", "--",
        )  # fmt: skip
        parts = [entry.split(_FIELD, 3) for entry in listed.split(_RECORD) if entry]
        return [Commit(sha=sha, author=who, at=at, subject=what) for sha, who, at, what in parts]

    def diff(self, *, base: str, head: str) -> str:
        """What `head` has changed since it left `base`; cut after `MAX_DIFF` bytes."""
        return self._git(
            "-c", "core.quotePath=false", "diff-tree", "-p", "-r", "--no-color", "--no-ext-diff",
            "--no-textconv", "--no-renames", "--merge-base",
            f"refs/heads/{base}", f"refs/heads/{head}", "--",
        )  # fmt: skip

    def _git(self, *args: str) -> str:
        return _git(self.opened().path, *args)


def found(root: Path) -> list[str]:
    """The names of all repositories under the root."""
    paths = root.glob("[!.]*/[!.]*.git/HEAD")
    return sorted(path.parent.relative_to(root).as_posix().removesuffix(".git") for path in paths)


def _git(git_dir: Path, *args: str, stdin: bytes = b"") -> str:
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
    ):
        given.write(stdin)
        given.seek(0)
        try:
            status = subprocess.run(  # noqa: S603 - no shell; refs have our prefix, names are checked
                ["git", f"--git-dir={git_dir}", *args],  # noqa: S607 - found on our own PATH
                env=_ENVIRONMENT,
                cwd="/",
                stdin=given,
                stdout=out,
                stderr=errors,
                timeout=_SECONDS,
                check=False,
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(SERVICE, f"git {args[0]}: {type(error).__name__}") from error
        errors.seek(0)
        out.seek(0)
        if status != 0:
            said = errors.read(500).decode(errors="replace").strip()
            raise UnavailableError(SERVICE, f"git {args[0]}: {said}")
        return out.read(MAX_DIFF).decode(errors="replace")


def _import_stream(files: Mapping[str, str], branch: str, message: str) -> bytes:
    now = f"Errand <errand@localhost> {int(time.time())} +0000"
    parts = [f"commit refs/heads/{branch}\ncommitter {now}\n".encode(), _data(message), b"\n"]
    for path, content in files.items():
        if not _PATH.fullmatch(path):
            raise RejectedError(SERVICE, f"not a path for a new file: {path!r}")
        mode = "100755" if content.startswith("#!") else "100644"
        parts += [f"M {mode} inline {path}\n".encode(), _data(content), b"\n"]
    return b"".join(parts)


def _data(text: str) -> bytes:
    content = text.encode()
    return b"data %d\n%b" % (len(content), content)
