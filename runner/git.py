"""Git on the host: a bare directory of ours, a configuration of ours, and nothing that an agent wrote runs.

Every call names its `--git-dir` and has no hooks, no prompts and no credential helper. It speaks only the
protocol of the URL at hand, to that URL: redirects are not followed, because a credential goes with them.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from runner.bundle import read_header
from runner.errors import WorkspaceError
from runner.gitprocess import Outcome, config_environment, execute, redact

_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "false"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.followRedirects", "false"),
    ("protocol.allow", "never"),
    ("safe.bareRepository", "explicit"),
)
_SCHEMES = ("https", "http", "file")
_NAME = re.compile(r"[A-Za-z0-9_+^{}*:/][^\x00-\x20\x7f]*")
_MIB = 1024 * 1024
# What git itself says when nobody answered (LC_ALL=C); anything else is an answer.
_NO_ANSWER = re.compile(
    r"Could not resolve host|Failed to connect|Couldn't connect|Connection (refused|reset|timed out)"
    r"|Operation timed out|The requested URL returned error: 5\d\d|[Ee]mpty reply from server"
    r"|hung up unexpectedly|early EOF|RPC failed|no end after"
)
# The same for a credential that was not taken: the prompt that follows on a 401 has nobody to answer it.
_NOT_ACCEPTED = re.compile(
    r"^(?:fatal|error): (.*(?:Authentication failed|could not read (?:Username|Password)"
    r"|The requested URL returned error: 40[13]).*)$",
    re.MULTILINE,
)


class GitError(WorkspaceError):
    """Git ended with something other than success. `status` is None when we ended it."""

    def __init__(self, status: int | None, tail: str) -> None:
        super().__init__(f"git: {tail.strip() or f'status {status}'}")
        self.status = status
        self.tail = tail


class PushRejectedError(GitError):
    """The remote, or our lease on the branch, refused the push."""


class GitAuthError(GitError):
    """The remote did not accept the credential, or not for this repository."""

    @property
    def refusal(self) -> str:
        """The line that says so."""
        found = _NOT_ACCEPTED.search(self.tail)
        return found[1] if found else str(self)


class RemoteUnavailableError(GitError):
    """No answer, or a 5xx: a push may or may not have taken effect."""


@dataclass(frozen=True, slots=True)
class FileDiff:
    path: str
    added: int | None
    """Lines; None where they can't be counted, which is where it is no text."""
    removed: int | None


class Git:
    """One bare repository on this host. Errors of every method: `GitError` and its leaves."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir.absolute()

    @property
    def git_dir(self) -> Path:
        return self._git_dir

    @classmethod
    async def init_bare(cls, path: Path) -> Self:
        """An empty bare repository without anybody's template. Safe twice."""
        await asyncio.to_thread(path.mkdir, parents=True, exist_ok=True)
        git = cls(path)
        await git.run("init", "--bare", "--quiet", "--template=", "--initial-branch=main")
        return git

    async def run(
        self,
        *args: str,
        url: str | None = None,
        header: str | None = None,
        input: bytes | BinaryIO | None = None,  # noqa: A002 - the word subprocess uses
        timeout: float = 60,  # noqa: ASYNC109 - one limit for the whole process
        max_output: int = 10 * _MIB,
    ) -> bytes:
        """Standard output. `url` opens its protocol, and `header` is sent to it and nowhere else."""
        outcome = await self._execute(
            args, url=url, header=header, stdin=input, timeout=timeout, max_output=max_output
        )
        if outcome.status != 0:
            raise _error(outcome, remote=url is not None)
        return outcome.stdout

    async def fetch(
        self,
        url: str,
        *,
        header: str | None,
        refspecs: Sequence[str],
        prune: bool = False,
        timeout: float = 600,  # noqa: ASYNC109 - as run
    ) -> None:
        """Fetch. Objects are not checked strictly: old and honest histories have flaws."""
        await self.run(
            "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            "--no-auto-maintenance", *(["--prune"] if prune else []), url, *map(_name, refspecs),
            url=url, header=header, timeout=timeout,
        )  # fmt: skip

    async def ls_remote(self, url: str, *, header: str | None, ref: str) -> str | None:
        """The SHA of one ref (`refs/heads/main`, `HEAD`) on the remote, if it is there."""
        lines = await self.run("ls-remote", "--quiet", url, _name(ref), url=url, header=header)
        for line in lines.decode(errors="replace").splitlines():
            sha, _, name = line.partition("\t")
            if name == ref:
                return sha
        return None

    async def push(
        self, url: str, *, header: str | None, sha: str, ref: str, expect: str | None
    ) -> None:
        """Put `ref` at `sha` if it is at `expect` (None: if there is none yet), or at `sha` already. Safe twice."""
        outcome = await self._execute(
            ["push", "--porcelain", "--no-verify", "--recurse-submodules=no", "--no-signed",
             f"--force-with-lease={_name(ref)}:{expect or ''}", url, f"{_name(sha)}:{ref}"],
            url=url, header=header, stdin=None, timeout=300, max_output=_MIB,
        )  # fmt: skip
        if outcome.status == 0:
            return
        refused = [line for line in _lines(outcome) if line.startswith("!\t")]
        if not refused:
            raise _error(outcome, remote=True)
        # A line that is cut after the push makes git push again by itself, and lose to itself.
        if await self.ls_remote(url, header=header, ref=ref) != sha:
            said = redact("\n".join([*refused, outcome.tail]), header)
            raise PushRejectedError(outcome.status, said)

    async def fetch_bundle(self, bundle: Path, *, ref: str, into: str, max_bytes: int) -> str:
        """Take `ref` out of a bundle as `into` and return its SHA; every object in it is checked (fsck, links).

        Not `git fetch`: git before 2.46 checks nothing when it fetches from a bundle.
        """
        with await asyncio.to_thread(bundle.open, "rb") as file:
            try:
                refs, offset = await asyncio.to_thread(read_header, file)
                sha = refs[ref]
            except (ValueError, KeyError) as error:
                raise GitError(None, f"the bundle is not as it should be: {error}") from error
            os.lseek(file.fileno(), offset, os.SEEK_SET)  # not seek: that may move the buffer only
            await self.run(
                "index-pack", "--stdin", "--strict", "--fix-thin", f"--max-input-size={max_bytes}",
                input=file, timeout=300,
            )  # fmt: skip
        await self.run("cat-file", "-e", f"{_name(sha)}^{{commit}}")
        await self.run("update-ref", "--no-deref", _name(into), sha)
        return sha

    async def rev_parse(self, ref: str) -> str | None:
        """The SHA of the commit that `ref` names, if there is one."""
        outcome = await self._local("rev-parse", "--verify", "--quiet", _name(ref) + "^{commit}")
        if outcome.status not in {0, 1}:
            raise _error(outcome)
        return outcome.stdout.decode().strip() or None

    async def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        outcome = await self._local(
            "merge-base", "--is-ancestor", _name(ancestor), _name(descendant)
        )
        if outcome.status not in {0, 1}:
            raise _error(outcome)
        return outcome.status == 0

    async def merge_base(self, one: str, other: str) -> str | None:
        """The newest commit that both come from, if there is one."""
        outcome = await self._local("merge-base", _name(one), _name(other))
        if outcome.status not in {0, 1}:
            raise _error(outcome)
        return outcome.stdout.decode().strip() or None

    async def show(self, ref: str, path: str, *, max_bytes: int = 65536) -> bytes | None:
        """A regular file's content; None if there is no such file (a symlink is none)."""
        listed = await self.run("ls-tree", "-z", "--full-tree", _name(ref), "--", path)
        for entry in listed.decode(errors="replace").split("\0"):
            meta, _, name = entry.partition("\t")
            if name == path and meta.startswith("100"):
                return await self.run("cat-file", "blob", meta.split()[2], max_output=max_bytes)
        return None

    async def numstat(self, base: str, head: str) -> tuple[FileDiff, ...]:
        """What `head` changed since it left `base`."""
        listed = await self.run(
            "diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv",
            "--merge-base", _name(base), _name(head),
        )  # fmt: skip
        return tuple(_file_diff(entry) for entry in listed.split(b"\0") if entry)

    async def _local(self, *args: str) -> Outcome:
        return await self._execute(
            args, url=None, header=None, stdin=None, timeout=60, max_output=_MIB
        )

    async def _execute(
        self,
        args: Sequence[str],
        *,
        url: str | None,
        header: str | None,
        stdin: bytes | BinaryIO | None,
        timeout: float,  # noqa: ASYNC109 - as run
        max_output: int,
    ) -> Outcome:
        outcome = await execute(
            ["git", f"--git-dir={self._git_dir}", *args],
            environment=config_environment([*_SETTINGS, *_remote_settings(url, header)]),
            stdin=stdin,
            timeout=timeout,
            max_output=max_output,
        )
        return Outcome(
            status=outcome.status, stdout=outcome.stdout, tail=redact(outcome.tail, header)
        )


def _remote_settings(url: str | None, header: str | None) -> list[tuple[str, str]]:
    if url is None:
        return []
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or "@" in parts.netloc:
        raise GitError(None, f"a URL must be one of {', '.join(_SCHEMES)}, without a credential")
    settings = [(f"protocol.{parts.scheme}.allow", "always")]
    if header is not None:
        settings.append((f"http.{url}.extraHeader", header))
    return settings


def _name(name: str) -> str:
    """Refs, refspecs and SHAs as they are; never an option, never two words."""
    if not _NAME.fullmatch(name):
        raise GitError(None, f"not a name of a ref: {name!r}")
    return name


def _lines(outcome: Outcome) -> list[str]:
    return outcome.stdout.decode(errors="replace").splitlines()


def _error(outcome: Outcome, *, remote: bool = False) -> GitError:
    kind = GitError
    if remote and _NOT_ACCEPTED.search(outcome.tail):
        kind = GitAuthError
    elif remote and _NO_ANSWER.search(outcome.tail):
        kind = RemoteUnavailableError
    return kind(outcome.status, outcome.tail)


def _file_diff(entry: bytes) -> FileDiff:
    added, removed, path = entry.split(b"\t", 2)
    lines = [int(count) if count.isdigit() else None for count in (added, removed)]
    return FileDiff(path.decode("utf-8", "replace"), *lines)
