"""The port to what people say and see on a forge. Only reading."""

from typing import Protocol

from pydantic import BaseModel, ConfigDict


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Comment(_Value):
    author: str
    text: str


class Discussion(_Value):
    """An issue, or what a pull request says of itself. All of it is what people typed."""

    number: int
    title: str
    state: str
    author: str
    url: str
    body: str
    branches: tuple[str, str] | None = None
    """Of a pull request: where it comes from, and where to."""
    comments: tuple[Comment, ...] = ()


class Check(_Value):
    name: str
    state: str
    """As the forge says it: success, failure, in_progress."""
    url: str


class Reading(Protocol):
    """Errors of every method: `IntegrationError`'s leaves; `RejectedError` for what is not there."""

    async def pull(self, repo: str, number: int, *, comments: bool) -> Discussion:
        """A pull request; its comments only if they are asked for."""

    async def diff(self, repo: str, number: int) -> str:
        """A pull request's changes as a patch."""

    async def checks(self, repo: str, number: int) -> list[Check]:
        """What has been run on a pull request's newest commit."""

    async def issue(self, repo: str, number: int, *, comments: bool) -> Discussion:
        """An issue; its comments only if they are asked for."""
