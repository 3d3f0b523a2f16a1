"""Bare mirrors of repositories on this host: where workspaces take their objects from, read-only.

Objects are never removed, because live workspaces borrow them; and everything is readable for the containers' users.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policies.model import RepoRead
from runner import repo_settings
from runner.errors import WorkspaceError
from runner.git import Git
from runner.gitdir import is_whole, locked
from runner.protocol import Launch
from runner.serve_client import GitAccess

FETCH_SECONDS: Final = 600
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Where a run starts from."""

    mirror: Path
    base_commit: str
    """What comes after it is handed in."""
    start_commit: str
    """Head of the task's branch when the run goes on from there, else of the base branch."""
    settings: bytes | None
    """`.errand.yml` of the base branch."""


class Mirrors:
    """The mirrors under one directory; safe with several processes. Errors: `WorkspaceError`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def refresh(self, launch: Launch, access: GitAccess) -> Checkout:
        """Fetch every branch, and say where the run starts. Safe twice."""
        path = self.path(launch.forge, launch.repo)
        async with _fetched(path, access) as git:
            base = await git.rev_parse(f"refs/heads/{launch.base_branch}")
            branch = await git.rev_parse(f"refs/heads/{launch.branch}") if launch.resume else None
            if base is None:
                raise WorkspaceError(f"{launch.repo} has no branch {launch.base_branch}")
            settings = await git.show(base, repo_settings.FILE)
            start = branch or base
            common = await git.merge_base(base, start) if launch.kept else None
        return Checkout(
            mirror=path, base_commit=common or start, start_commit=start, settings=settings
        )

    async def fetch(self, read: RepoRead, access: GitAccess) -> None:
        """Every branch of a repository that is only read. Safe twice."""
        async with _fetched(self.path(read.forge, read.repo), access):
            pass

    def path(self, forge: str, repo: str) -> Path:
        parts = [forge, *repo.split("/")]
        if not all(_PLAIN.fullmatch(part) for part in parts):
            raise WorkspaceError(f"{forge}: {repo!r} is not the name of a repository")
        # The digest keeps apart what a case-insensitive file system would mix up.
        digest = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
        return self._root.absolute().joinpath(*parts[:-1], f"{parts[-1]}-{digest}.git")


@asynccontextmanager
async def _fetched(path: Path, access: GitAccess) -> AsyncIterator[Git]:
    """Up to date, and nobody else's until it is left."""
    async with locked(path):
        git = await _ready(path)
        await git.fetch(
            access.url,
            header=access.header.get_secret_value() if access.header else None,
            refspecs=["+refs/heads/*:refs/heads/*"],
            prune=True,
            timeout=FETCH_SECONDS,
        )
        yield git


async def _ready(path: Path) -> Git:
    if not await asyncio.to_thread(is_whole, path):
        git = await Git.init_bare(path)
        await asyncio.to_thread(_open_up, path)
    else:
        git = Git(path)
    for name, value in (("gc.auto", "0"), ("core.sharedRepository", "0644")):
        await git.run("config", name, value)
    return git


def _open_up(path: Path) -> None:
    """What git made before it knew that others read along, under whatever umask."""
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() else 0o644)
