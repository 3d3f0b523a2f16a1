"""The port to a place where code lives."""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:  # fastapi takes a third of a second to load, and a worker has no use for it
    from fastapi import APIRouter


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GitAccess(_Value):
    """How git reaches a repository: a URL and, if needed, one HTTP header (never in argv or URL)."""

    url: str
    header: SecretStr | None = None


class PullDraft(_Value):
    """A pull request to open. `head` and `base` are branch names without `refs/heads/`."""

    repo: str
    head: str
    base: str
    title: str
    body: str
    draft: bool = False


class Pull(_Value):
    number: int
    url: str
    head: str
    base: str
    open: bool
    merged: bool = False


class Forge(Protocol):
    """A place where code lives. Errors of every method: `IntegrationError`'s leaves, nothing else.

    Repositories are named `owner/name`.
    """

    @property
    def name(self) -> str:
        """As a policy names it: github, local."""

    async def default_branch(self, repo: str) -> str:
        """Name of the default branch. `RejectedError` if there is no such repository or no access."""

    async def access(self, repo: str, *, write: bool) -> GitAccess:
        """Access for git to this one repository, as short-lived as the forge allows."""

    async def find_pull(self, repo: str, *, head: str) -> Pull | None:
        """The newest pull request whose head is this branch, open ones first."""

    async def ended_pulls(self, repo: str, *, since: datetime) -> list[Pull]:
        """Those that are merged or closed and have changed since, in one question where few have."""

    async def open_pull(self, draft: PullDraft) -> Pull:
        """Open it. Safe twice: where one is open for the same head, that one is returned."""

    def routes(self) -> "APIRouter | None":
        """Pages of the forge, if it has any."""

    async def check(self) -> list[str]:
        """Problems that `errand doctor` should name, each with what to do; empty if all is well."""

    async def close(self) -> None:
        """Release connections. Safe twice."""
