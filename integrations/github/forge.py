"""GitHub, github.com or Enterprise Server, as a forge."""

import base64
import re
from datetime import datetime
from typing import Final

import httpx
from fastapi import APIRouter
from pydantic import SecretStr

from integrations.errors import (
    AuthError,
    IntegrationError,
    MalformedPayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.forge import GitAccess, Pull, PullDraft
from integrations.github.api import SERVICE, Api, PullRequest, Repository, User
from integrations.github.config import GitHubConfig

_PART = r"(?!\.+(?:/|$))[A-Za-z0-9_.-]{1,100}"
_REPO = re.compile(rf"{_PART}/{_PART}")
_PAGE, _MAX_PAGES = 100, 10
_MAX_TITLE = 256
_MAX_BODY = 65_000
_ADVICE: Final = (
    "make a fine-grained token for the repositories with contents and pull requests, read and write,"
    " and set ERRAND_GITHUB__TOKEN (docs/forges.md)"
)
_READ_ADVICE: Final = (
    "make a fine-grained token for the repositories with contents, read only, and set ERRAND_GITHUB__READ_TOKEN"
    " (docs/forges.md), or leave it out"
)


class GitHubForge:
    def __init__(
        self, config: GitHubConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        self._api = Api(config, transport=transport)
        self._transport = transport

    @property
    def name(self) -> str:
        return SERVICE

    async def default_branch(self, repo: str) -> str:
        found = await self._api.get(f"/repos/{checked(repo)}", Repository)
        return found.default_branch

    async def access(self, repo: str, *, write: bool) -> GitAccess:
        """A token of the settings: GitHub gives no shorter-lived one to a personal access token."""
        reading = None if write else self._config.read_token
        token = (reading or self._config.token).get_secret_value()
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        return GitAccess(
            url=f"{self._config.git_url}/{checked(repo)}.git",
            header=SecretStr(f"Authorization: Basic {basic}"),
        )

    async def find_pull(self, repo: str, *, head: str) -> Pull | None:
        owner = checked(repo).partition("/")[0]
        listed = await self._api.get(
            f"/repos/{repo}/pulls", list[PullRequest],
            head=f"{owner}:{head}", state="all", sort="created", direction="desc", per_page="100",
        )  # fmt: skip
        # GitHub leaves the filter out when it cannot read it: look again.
        ours = [_pull(pull) for pull in listed if _comes_from(pull, repo, head)]
        return max(ours, key=lambda pull: (pull.open, pull.number), default=None)

    async def ended_pulls(self, repo: str, *, since: datetime) -> list[Pull]:
        found: list[Pull] = []
        for page in range(1, _MAX_PAGES + 1):
            listed = await self._api.get(
                f"/repos/{checked(repo)}/pulls", list[PullRequest], state="closed",
                sort="updated", direction="desc", per_page=str(_PAGE), page=str(page),
            )  # fmt: skip
            new = [pull for pull in listed if pull.updated_at is None or pull.updated_at >= since]
            found += [_pull(pull) for pull in new if pull.state == "closed"]
            if len(new) < _PAGE:
                break
        return found

    async def open_pull(self, draft: PullDraft) -> Pull:
        """Look, create, and where that is refused look again: another one may have been faster."""
        found = await self.find_pull(draft.repo, head=draft.head)
        if found is not None and found.open:
            return found
        try:
            return await self._create(draft)
        except AuthError:
            raise
        except RejectedError:
            found = await self.find_pull(draft.repo, head=draft.head)
            if found is None or not found.open:
                raise
            return found

    def routes(self) -> APIRouter | None:
        return None

    async def check(self) -> list[str]:
        return await self._check_main() or await self._check_reading()

    async def _check_reading(self) -> list[str]:
        """The token that git fetches with is asked for by nothing else."""
        token = self._config.read_token
        if token is None:
            return []
        config = self._config.model_copy(update={"token": token})
        try:
            await Api(config, transport=self._transport).get("/user", User)
        except RejectedError as error:
            return [f"GitHub does not accept the token for reading ({error.code}): {_READ_ADVICE}."]
        except (RateLimitedError, UnavailableError, MalformedPayloadError) as error:
            return [self._out_of_reach(error)]
        return []

    async def _check_main(self) -> list[str]:
        try:
            await self._api.get("/user", User)
            return _scope_problems(await self._api.header("/user", "x-oauth-scopes"))
        except AuthError:
            return [f"GitHub does not accept the token: {_ADVICE}."]
        except RejectedError as error:
            return [f"GitHub refuses the token's own user ({error.code}): {_ADVICE}."]
        except MalformedPayloadError:
            return [f"{self._config.api_url} is not GitHub's API: set ERRAND_GITHUB__API_URL."]
        except (RateLimitedError, UnavailableError) as error:
            return [self._out_of_reach(error)]

    def _out_of_reach(self, error: IntegrationError) -> str:
        return f"{error}: look at {self._config.api_url} from this host, then try again."

    async def close(self) -> None:
        """Nothing is kept open between calls."""

    async def _create(self, draft: PullDraft) -> Pull:
        body = {
            "title": draft.title[:_MAX_TITLE],
            "body": draft.body[:_MAX_BODY],
            "head": draft.head,
            "base": draft.base,
            "draft": draft.draft,
        }
        path = f"/repos/{checked(draft.repo)}/pulls"
        return _pull(await self._api.post(path, PullRequest, body))


def checked(repo: str) -> str:
    """The name as it is: it becomes a part of a path that the token is sent to."""
    if not _REPO.fullmatch(repo):
        raise RejectedError(SERVICE, "a repository is named owner/name")
    return repo


def _comes_from(pull: PullRequest, repo: str, head: str) -> bool:
    source = pull.head.repo
    return (
        pull.head.ref == head
        and source is not None
        and source.full_name.casefold() == repo.casefold()
    )


def _pull(pull: PullRequest) -> Pull:
    return Pull(
        number=pull.number,
        url=pull.html_url,
        head=pull.head.ref,
        base=pull.base.ref,
        open=pull.state == "open",
        merged=pull.merged_at is not None,
    )


def _scope_problems(header: str | None) -> list[str]:
    """Only classic tokens have scopes; a fine-grained one sends no such header."""
    if not header:
        return []
    scopes = {scope.strip() for scope in header.split(",")}
    problems = []
    if not scopes & {"repo", "public_repo"}:
        problems.append(f"The token has no scope `repo`: {_ADVICE}.")
    if "workflow" in scopes:
        problems.append(
            "The token may change workflows, which then run with the repository's secrets:"
            f" {_ADVICE}."
        )
    return problems
