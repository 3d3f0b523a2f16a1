"""GitHub's REST API: calls, the few fields that we read, and its errors in our words."""

from datetime import datetime
from typing import Any, Final, TypeVar

import httpx
from githubkit import GitHub, Response, TokenAuthStrategy
from githubkit.exception import GitHubException, RateLimitExceeded, RequestError, RequestFailed
from pydantic import BaseModel, TypeAdapter, ValidationError

from integrations.errors import (
    AuthError,
    IntegrationError,
    MalformedPayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.github.config import GitHubConfig
from integrations.invalid import invalid_fields

SERVICE: Final = "github"
_TIMEOUT = httpx.Timeout(20, connect=5)
_SECONDARY_WAIT = 60.0
"""GitHub asks for at least a minute where it does not say how long."""
_VERSION = {"X-GitHub-Api-Version": "2022-11-28"}

T = TypeVar("T")


class Repository(BaseModel):
    default_branch: str


class _BranchRepository(BaseModel):
    full_name: str


class Branch(BaseModel):
    ref: str
    repo: _BranchRepository | None = None
    """None where the fork it came from is gone."""


class PullRequest(BaseModel):
    number: int
    html_url: str
    state: str
    merged_at: datetime | None = None
    updated_at: datetime | None = None
    head: Branch
    base: Branch


class User(BaseModel):
    login: str


class _ErrorDetail(BaseModel):
    message: str = ""
    code: str = ""


class _ErrorBody(BaseModel):
    message: str = ""
    errors: list[_ErrorDetail | str] = []


class Api:
    """Calls that are made once: whoever calls knows whether a second one is safe. Raises `IntegrationError`'s leaves."""

    def __init__(
        self, config: GitHubConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._github = GitHub(
            TokenAuthStrategy(config.token.get_secret_value()),
            base_url=config.api_url,
            user_agent="errand",
            follow_redirects=False,
            timeout=_TIMEOUT,
            # githubkit makes a client for each call: without this, each would read the CA bundle again.
            ssl_verify=httpx.create_ssl_context(),
            async_transport=transport,
            http_cache=False,
            auto_retry=False,
        )

    async def get(self, path: str, shape: type[T], **params: str) -> T:
        return _read(await self._call("GET", path, params=params), shape)

    async def post(self, path: str, shape: type[T], body: dict[str, Any]) -> T:
        return _read(await self._call("POST", path, json=body), shape)

    async def text(self, path: str, *, accept: str) -> str:
        """An answer in another form than JSON."""
        response = await self._call("GET", path, headers={"Accept": accept})
        return response.content.decode("utf-8", "replace")

    async def header(self, path: str, name: str) -> str | None:
        """One header of the answer to a GET."""
        value: str | None = (await self._call("GET", path)).headers.get(name)
        return value

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        json: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response[Any]:
        try:
            response = await self._github.arequest(
                method, path, params=params, json=json, headers={**_VERSION, **(headers or {})}
            )
        except GitHubException as error:
            raise mapped(error) from error
        except ValueError as error:  # a rate limit whose waiting time is no number
            raise RateLimitedError(SERVICE, _SECONDARY_WAIT) from error
        if response.status_code >= httpx.codes.MULTIPLE_CHOICES:
            raise RejectedError(SERVICE, f"{response.status_code} moved; use its new name")
        return response


def mapped(error: GitHubException) -> IntegrationError:
    match error:
        case RateLimitExceeded():
            return RateLimitedError(SERVICE, error.retry_after.total_seconds())
        case RequestFailed():
            return _refusal(error.response.status_code, error.response.content)
        case RequestError():
            return UnavailableError(SERVICE, type(error.exc).__name__)
        case _:
            return UnavailableError(SERVICE, type(error).__name__)


def _refusal(status: int, content: bytes) -> IntegrationError:
    said = _said(content)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return UnavailableError(SERVICE, str(status))
    if status == httpx.codes.UNAUTHORIZED:
        return AuthError(SERVICE, f"{status} {said}")
    if status == httpx.codes.TOO_MANY_REQUESTS or (
        # GitHub's secondary limit has no mark but these words.
        status == httpx.codes.FORBIDDEN and "secondary rate limit" in said
    ):
        return RateLimitedError(SERVICE, _SECONDARY_WAIT)
    return RejectedError(SERVICE, f"{status} {said}".strip())


def _said(content: bytes) -> str:
    try:
        body = _ErrorBody.model_validate_json(content)
    except ValidationError:
        return ""
    details = [e if isinstance(e, str) else e.message or e.code for e in body.errors]
    return "; ".join(part for part in [body.message, *details] if part)[:300]


def _read(response: Response[Any], shape: type[T]) -> T:
    try:
        return TypeAdapter(shape).validate_json(response.content)
    except ValidationError as error:
        fields = invalid_fields(error, most=3)
        raise MalformedPayloadError(f"{SERVICE} answered without {fields or 'JSON'}") from error
