"""A forge on this disk: bare repositories and a page for each pull request. For demos, tests and air-gapped hosts."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from fastapi import APIRouter

from integrations.errors import RejectedError, UnavailableError
from integrations.forge import GitAccess, Pull, PullDraft
from integrations.localforge import repository
from integrations.localforge.pages import Pages
from integrations.localforge.pulls import PullRow, Pulls
from integrations.localforge.repository import SERVICE, Repository


class LocalForge:
    def __init__(self, root: Path, base_url: str) -> None:
        """`root` is a directory that `serve` and `work` see under the same path; `base_url` is where people see serve."""
        self._root = root.absolute()
        self._base_url = base_url.rstrip("/")
        self._pulls = Pulls(self._root / "forge.db")

    @property
    def name(self) -> str:
        return "local"

    async def create_repo(
        self,
        repo: str,
        files: Mapping[str, str],
        *,
        branch: str = "main",
        message: str = "Initial commit",
    ) -> None:
        """A repository with one commit. Safe twice: one that is there stays as it is."""
        made = Repository(self._root, repo)
        await asyncio.to_thread(made.create, files, branch=branch, message=message)

    async def default_branch(self, repo: str) -> str:
        return await asyncio.to_thread(Repository(self._root, repo).default_branch)

    async def access(self, repo: str, *, write: bool) -> GitAccess:
        found = await asyncio.to_thread(Repository(self._root, repo).opened)
        return GitAccess(url=found.path.as_uri())

    async def find_pull(self, repo: str, *, head: str) -> Pull | None:
        await asyncio.to_thread(Repository(self._root, repo).opened)
        row = await asyncio.to_thread(self._pulls.find, repo, head)
        return await asyncio.to_thread(self._seen, row) if row else None

    async def ended_pulls(self, repo: str, *, since: datetime) -> list[Pull]:
        """All of them: nothing is noted here of when they changed."""
        await asyncio.to_thread(Repository(self._root, repo).opened)
        rows = await asyncio.to_thread(self._pulls.of, repo)
        seen = [await asyncio.to_thread(self._seen, row) for row in rows]
        return [pull for pull in seen if not pull.open]

    async def open_pull(self, draft: PullDraft) -> Pull:
        return self._pull(await asyncio.to_thread(self._open, draft))

    async def close_pull(self, repo: str, number: int) -> None:
        """What a person does who is done with it. Safe twice."""
        await asyncio.to_thread(self._pulls.close, repo, number)

    def routes(self) -> APIRouter | None:
        return Pages(self._root, self._pulls).router()

    async def check(self) -> list[str]:
        try:
            await asyncio.to_thread(self._look)
        except UnavailableError as error:
            return [f"{error}: see that git is installed and {self._root} can be written."]
        return []

    async def close(self) -> None:
        """Nothing is kept open between calls."""

    def _open(self, draft: PullDraft) -> PullRow:
        opened = Repository(self._root, draft.repo).opened()
        for branch in (draft.head, draft.base):
            if not opened.has_branch(branch):
                raise RejectedError(SERVICE, f"{draft.repo} has no branch {branch}")
        return self._pulls.open_one(draft)

    def _look(self) -> None:
        self._pulls.find("", "")
        for name in repository.found(self._root):
            Repository(self._root, name).default_branch()

    def _seen(self, row: PullRow) -> Pull:
        """As it is now: what has come to its base is merged, and with that no longer open."""
        here = Repository(self._root, row.repo)
        both = here.has_branch(row.head) and here.has_branch(row.base)
        merged = both and not here.commits(base=row.base, head=row.head)
        if merged and row.open:
            self._pulls.close(row.repo, row.number)
        return self._pull(row, merged=merged)

    def _pull(self, row: PullRow, *, merged: bool = False) -> Pull:
        return Pull(
            number=row.number,
            url=f"{self._base_url}/forge/{row.repo}/pulls/{row.number}",
            head=row.head,
            base=row.base,
            open=row.open and not merged,
            merged=merged,
        )
