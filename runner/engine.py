"""The Docker client: made on first use, called in threads, its errors turned into ours."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from runner.errors import RunnerError, SandboxAwayError, SandboxLostError, SandboxStartError

T = TypeVar("T")

HTTP_CONFLICT: Final = 409
_CALL_SECONDS: Final = 60
# Each followed container and each open stdin holds a connection.
_POOL: Final = 256
_OURS: Final = re.compile(r"\berrand-([a-z][a-z0-9-]*):")

_RUNTIME: Final = re.compile(r"runtime\b.*\brunsc\b", re.IGNORECASE)


class Engine:
    """One client per backend. `docker_host` as in DOCKER_HOST; None is the local socket."""

    def __init__(self, docker_host: str | None = None) -> None:
        self.docker_host = docker_host
        self._client: docker.APIClient | None = None
        self._lock = threading.Lock()

    def api(self) -> docker.APIClient:
        """Blocks: connects on the first call. Raises what the docker package raises."""
        with self._lock:
            if self._client is None:
                self._client = docker.APIClient(
                    base_url=self.docker_host,
                    version="auto",
                    timeout=_CALL_SECONDS,
                    max_pool_size=_POOL,
                )
            return self._client

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def starting(self, work: Callable[[docker.APIClient], T]) -> T:
        """Run blocking work in a thread; what fails is a `SandboxStartError`."""
        return await asyncio.to_thread(self._run, work, SandboxStartError)

    async def running(self, work: Callable[[docker.APIClient], T]) -> T:
        """Run blocking work in a thread; what fails is a `SandboxLostError`."""
        return await asyncio.to_thread(self._run, work, SandboxLostError)

    def _run(self, work: Callable[[docker.APIClient], T], error: type[RunnerError]) -> T:
        with mapped(error):
            return work(self.api())


@contextlib.contextmanager
def mapped(error: type[RunnerError]) -> Iterator[None]:
    """Foreign exceptions become `error`, with a sentence for who can act on it; no answer is a `SandboxAwayError`."""
    try:
        yield
    except (DockerException, requests.RequestException, OSError) as exc:
        raise (SandboxAwayError if _unanswered(exc) else error)(sentence(exc)) from exc


def _unanswered(exc: Exception) -> bool:
    # The package's root itself is what it raises where it finds no server.
    return type(exc) is DockerException or isinstance(
        exc, requests.ConnectionError | requests.Timeout
    )


def sentence(exc: Exception) -> str:
    match exc:
        case ImageNotFound():
            said = _said(exc)
            ours = _OURS.search(said)
            make = f"errand image build {ours[1]}" if ours else "errand image build"
            return f"the image is not on this Docker host: {said}; `{make}` makes it"
        case NotFound():
            return f"Docker does not have it: {_said(exc)}"
        case APIError() if _RUNTIME.search(_said(exc)):
            return (
                f"Docker refused: {_said(exc)}; install gVisor on this host and register it with Docker as `runsc` "
                "(docs/security.md), or let policy and ERRAND_WORK__RUNTIME not demand it"
            )
        case APIError():
            return f"Docker refused: {_said(exc)}"
        case requests.Timeout():
            return "Docker did not answer in time"
        case _:
            return (
                f"Docker does not answer, or broke off ({_cause(exc)}): install or start it, let this user use it, "
                "or name another with ERRAND_WORK__DOCKER_HOST"
            )


def conflict(exc: APIError) -> bool:
    return exc.status_code == HTTP_CONFLICT


def _said(exc: APIError) -> str:
    return str(exc.explanation or exc).strip()


def _cause(exc: BaseException) -> str:
    """What the system said, out of the layers around it."""
    for inner in (*exc.args, exc.__cause__, exc.__context__):
        if isinstance(inner, BaseException) and (found := _cause(inner)):
            return found
    return (isinstance(exc, OSError) and exc.strerror) or str(exc)
