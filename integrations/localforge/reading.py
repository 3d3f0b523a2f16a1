"""What the local forge has to read: pull requests. It has no issues, no comments and no checks."""

import asyncio
from pathlib import Path

from integrations.errors import RejectedError
from integrations.localforge.pulls import PullRow, Pulls
from integrations.localforge.repository import SERVICE, Repository
from integrations.reading import Check, Discussion


class LocalReading:
    def __init__(self, root: Path, base_url: str) -> None:
        """As of `LocalForge`."""
        self._root = root.absolute()
        self._base_url = base_url.rstrip("/")
        self._pulls = Pulls(self._root / "forge.db")

    async def pull(self, repo: str, number: int, *, comments: bool) -> Discussion:
        row = await self._row(repo, number)
        return Discussion(
            number=row.number,
            title=row.title,
            state="open" if row.open else "closed",
            author="errand",
            url=f"{self._base_url}/forge/{row.repo}/pulls/{row.number}",
            body=row.body,
            branches=(row.head, row.base),
        )

    async def diff(self, repo: str, number: int) -> str:
        row = await self._row(repo, number)
        opened = Repository(self._root, repo).opened
        return await asyncio.to_thread(lambda: opened().diff(base=row.base, head=row.head))

    async def checks(self, repo: str, number: int) -> list[Check]:
        await self._row(repo, number)
        return []

    async def issue(self, repo: str, number: int, *, comments: bool) -> Discussion:
        raise RejectedError(SERVICE, "there are no issues here")

    async def _row(self, repo: str, number: int) -> PullRow:
        await asyncio.to_thread(Repository(self._root, repo).opened)
        row = await asyncio.to_thread(self._pulls.get, repo, number)
        if row is None:
            raise RejectedError(SERVICE, f"{repo} has no pull request {number}")
        return row
