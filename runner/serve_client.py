"""What a worker asks of `serve`, and hands in, over HTTP."""

import asyncio
from pathlib import Path
from typing import Final, TypeVar

import httpx
import stamina
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from runner.errors import ServeUnavailableError, StaleRunError, UnknownRunError
from runner.protocol import Answered, Asked, Launch, RunKey

TIMEOUT_SECONDS: Final = 30.0
_UNKNOWN, _STALE = 404, 409
_FIRST_SERVER_ERROR = 500
_TOO_MANY = 429
_Model = TypeVar("_Model", bound=BaseModel)


class GitAccess(BaseModel):
    """How git reaches a repository for reading: a URL and, if needed, one HTTP header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    header: SecretStr | None = None


class ServeClient:
    """`serve`'s side for workers.

    No answer and 5xx are tried again for `patience_seconds` (None: until cancelled), which is safe, because every
    request is. Errors of every method: `StaleRunError`, `ServeUnavailableError`.
    """

    def __init__(
        self,
        *,
        url: str,
        token: SecretStr,
        transport: httpx.AsyncBaseTransport | None = None,
        patience_seconds: float | None = None,
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=TIMEOUT_SECONDS,
            transport=transport,
            trust_env=False,
        )
        self._patience = patience_seconds

    async def close(self) -> None:
        await self._client.aclose()

    async def launch(self, run: RunKey) -> Launch:
        answer = await self._ask("GET", _path(run))
        return _read(Launch, answer)

    async def access(self, run: RunKey, repo: str) -> GitAccess:
        """To the run's repository, or to another that it may read."""
        answer = await self._ask("POST", f"{_path(run)}/access", params={"repo": repo})
        return _read(GitAccess, answer)

    async def run_command(self, run: RunKey, asked: Asked) -> Answered:
        """Have it run by the broker of `serve`."""
        answer = await self._ask("POST", f"{_path(run)}/command", body=asked.model_dump_json())
        return _read(Answered, answer)

    async def picture(self, run: RunKey, name: str) -> bytes | None:
        """One that came with the request; None if `serve` has it no more."""
        return (await self._ask("GET", f"{_path(run)}/pictures/{name}")).content or None

    async def put_bundle(self, run: RunKey, bundle: Path, *, head: str, base: str) -> None:
        await self._put(f"{_path(run)}/bundle", bundle, params={"head": head, "base": base})

    async def put_transcript(self, run: RunKey, transcript: Path) -> None:
        """Hand in gzipped JSON lines."""
        await self._put(f"{_path(run)}/transcript", transcript, params={})

    async def _put(self, path: str, file: Path, *, params: dict[str, str]) -> None:
        await self._ask("PUT", path, file=file, params=params)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        file: Path | None = None,
        params: dict[str, str] | None = None,
        body: str | None = None,
    ) -> httpx.Response:
        async for attempt in stamina.retry_context(
            on=_NoAnswerError,
            attempts=None,
            timeout=self._patience,
            wait_max=5.0,
        ):
            with attempt:
                return _judged(await self._once(method, path, file=file, params=params, body=body))
        raise AssertionError("unreachable: the retry above returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        *,
        file: Path | None,
        params: dict[str, str] | None,
        body: str | None,
    ) -> httpx.Response:
        content = body if file is None else await asyncio.to_thread(file.read_bytes)
        try:
            return await self._client.request(method, path, content=content, params=params)
        except httpx.TransportError as error:
            raise _NoAnswerError(f"serve does not answer: {type(error).__name__}") from error


class _NoAnswerError(ServeUnavailableError):
    """Worth another try."""


def _path(run: RunKey) -> str:
    return f"/worker/runs/{run.task}/{run.fence}"


def _judged(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    if answer.status_code == _UNKNOWN:
        raise UnknownRunError("serve does not know the run")
    if answer.status_code == _STALE:
        raise StaleRunError("serve says that the run is not current")
    sentence = f"serve answers {answer.status_code} to {answer.request.url.path}"
    if answer.status_code >= _FIRST_SERVER_ERROR or answer.status_code == _TOO_MANY:
        raise _NoAnswerError(sentence)
    raise ServeUnavailableError(sentence)


def _read(model: type[_Model], answer: httpx.Response) -> _Model:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        where = error.errors(include_input=False, include_url=False)[0]
        sentence = f"serve's {model.__name__} is not understood: {where['loc']} {where['msg']}"
        raise ServeUnavailableError(sentence) from error
