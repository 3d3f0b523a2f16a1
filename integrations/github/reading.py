"""What GitHub says of pull requests and issues, read with the token that `serve` has anyway."""

from typing import Final

import httpx
from pydantic import BaseModel

from integrations.errors import RejectedError
from integrations.github.api import SERVICE, Api
from integrations.github.config import GitHubConfig
from integrations.github.forge import checked
from integrations.reading import Check, Comment, Discussion

_DIFF: Final = "application/vnd.github.diff"
_MOST: Final = "100"


class _User(BaseModel):
    login: str


class _Ref(BaseModel):
    ref: str
    sha: str


class _Comment(BaseModel):
    user: _User | None
    body: str | None = None


class _Issue(BaseModel):
    number: int
    title: str
    state: str
    html_url: str
    user: _User | None
    body: str | None = None
    pull_request: object = None


class _Pull(_Issue):
    head: _Ref
    base: _Ref


class _Run(BaseModel):
    name: str
    status: str
    conclusion: str | None = None
    html_url: str | None = None


class _Runs(BaseModel):
    check_runs: list[_Run]


class GitHubReading:
    def __init__(
        self, config: GitHubConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._api = Api(config, transport=transport)

    async def pull(self, repo: str, number: int, *, comments: bool) -> Discussion:
        found = await self._pull(repo, number)
        said = await self._comments(repo, number) if comments else ()
        return _discussion(found, said, branches=(found.head.ref, found.base.ref))

    async def diff(self, repo: str, number: int) -> str:
        return await self._api.text(f"/repos/{checked(repo)}/pulls/{number}", accept=_DIFF)

    async def checks(self, repo: str, number: int) -> list[Check]:
        found = await self._pull(repo, number)
        path = f"/repos/{checked(repo)}/commits/{found.head.sha}/check-runs"
        runs = await self._api.get(path, _Runs, per_page=_MOST)
        return [
            Check(name=run.name, state=run.conclusion or run.status, url=run.html_url or "")
            for run in runs.check_runs
        ]

    async def issue(self, repo: str, number: int, *, comments: bool) -> Discussion:
        found = await self._api.get(f"/repos/{checked(repo)}/issues/{number}", _Issue)
        if found.pull_request is not None:
            raise RejectedError(SERVICE, f"{number} is a pull request")
        return _discussion(found, await self._comments(repo, number) if comments else ())

    async def _pull(self, repo: str, number: int) -> _Pull:
        return await self._api.get(f"/repos/{checked(repo)}/pulls/{number}", _Pull)

    async def _comments(self, repo: str, number: int) -> tuple[Comment, ...]:
        """Of both: GitHub keeps a pull request's conversation as an issue's."""
        path = f"/repos/{checked(repo)}/issues/{number}/comments"
        listed = await self._api.get(path, list[_Comment], per_page=_MOST)
        return tuple(Comment(author=_login(c.user), text=c.body or "") for c in listed)


def _discussion(
    found: _Issue, comments: tuple[Comment, ...], *, branches: tuple[str, str] | None = None
) -> Discussion:
    return Discussion(
        number=found.number,
        title=found.title,
        state=found.state,
        author=_login(found.user),
        url=found.html_url,
        body=found.body or "",
        branches=branches,
        comments=comments,
    )


def _login(user: _User | None) -> str:
    """Whoever left GitHub has no name any more."""
    return user.login if user else "ghost"
