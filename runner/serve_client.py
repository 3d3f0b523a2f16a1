"""What a worker asks of `serve`, and hands in, over HTTP."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeVar

import httpx
import stamina
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from runner.errors import (
    ForgeRefusedError,
    ServeUnavailableError,
    StaleRunError,
    UnknownRunError,
)
from runner.protocol import Answered, Asked, Launch, RunKey

RUN_HEADER: Final = "X-Errand-Run"
"""What `serve` marks its own word about a run with: a proxy without a `serve` behind it answers 404 as well."""
UNKNOWN: Final = "unknown"
STALE: Final = "stale"
TIMEOUT_SECONDS: Final = 30.0
KEEPING_SECONDS: Final = 300.0
"""What `serve` gets to write a large file to its disk."""
PIECE_BYTES: Final = 64 * 2**10
_UNKNOWN, _STALE = (404, UNKNOWN), (409, STALE)
_ABOUT_RUNS: Final = frozenset({404, 409})
_FORGE_REFUSES: Final = 424
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

    No answer, 5xx, and a 404 or 409 that is not of `serve` are tried again for `patience_seconds` (None: until
    cancelled), which is safe, because every request is. `timeout_seconds` are for each step, not for a whole file.
    Errors of every method: `StaleRunError`, `ServeUnavailableError`; where the forge is asked, `ForgeRefusedError`.
    """

    def __init__(
        self,
        *,
        url: str,
        token: SecretStr,
        transport: httpx.AsyncBaseTransport | None = None,
        patience_seconds: float | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=timeout_seconds,
            transport=transport,
            trust_env=False,
        )
        self._patience = patience_seconds
        self._keeping = httpx.Timeout(timeout_seconds, read=KEEPING_SECONDS)

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
        try:
            if file is None:
                return await self._client.request(method, path, content=body, params=params)
            with _opened(file) as opened:
                return await self._client.request(
                    method,
                    path,
                    # In one piece, the whole of a file would have to be gone within one timeout.
                    content=_pieces(opened),
                    headers={"Content-Length": str(os.fstat(opened.fileno()).st_size)},
                    params=params,
                    timeout=self._keeping,
                )
        except httpx.TransportError as error:
            raise _NoAnswerError(f"serve does not answer: {type(error).__name__}") from error


class _NoAnswerError(ServeUnavailableError):
    """Worth another try."""


def _path(run: RunKey) -> str:
    return f"/worker/runs/{run.task}/{run.fence}"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        yield file


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


def _judged(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    status = answer.status_code
    said = (status, answer.headers.get(RUN_HEADER))
    if said == _UNKNOWN:
        raise UnknownRunError("serve does not know the run")
    if said == _STALE:
        raise StaleRunError("serve says that the run is not current")
    if status == _FORGE_REFUSES:
        raise ForgeRefusedError(_detail(answer))
    sentence = f"serve answers {status} to {answer.request.url.path}"
    if status in _ABOUT_RUNS:
        raise _NoAnswerError(f"{sentence} without {RUN_HEADER}: is it a proxy that answers?")
    if status >= _FIRST_SERVER_ERROR or status == _TOO_MANY:
        raise _NoAnswerError(sentence)
    raise ServeUnavailableError(sentence)


class _Refusal(BaseModel):
    detail: str


def _detail(answer: httpx.Response) -> str:
    try:
        return _Refusal.model_validate_json(answer.content).detail
    except ValidationError:
        return "it does not say why"


def _read(model: type[_Model], answer: httpx.Response) -> _Model:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        where = error.errors(include_input=False, include_url=False)[0]
        sentence = f"serve's {model.__name__} is not understood: {where['loc']} {where['msg']}"
        raise ServeUnavailableError(sentence) from error
