"""Which repositories a run may fetch, and git's service for it: bare mirrors, mounted read-only."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.inside.errors import BodyError
from runner.inside.gitservice import Session, advertised

REQUEST_BYTES = 32 * 1024 * 1024
"""Of one request, inflated: what a client has, some fifty bytes for each commit."""
_PIECE_BYTES = 64 * 1024
_FETCH_SECONDS = 900.0
_GZIP = 16 + zlib.MAX_WBITS
_OPTIONS = (
    "safe.directory=*",
    "uploadpack.allowFilter=true",
    "pack.threads=1",
    "pack.windowMemory=64m",
)


class Readable:
    """The run's own repository, and those that policy lists for it."""

    def __init__(self, *, mirror: Path, others: Path) -> None:
        self._mirror = mirror
        self._others = others
        self._paths: Mapping[str, Path] = {}

    def load(self, msg: Mapping[str, Any]) -> str | None:
        """Take them from a policy, or say why not."""
        own, listed = msg.get("repo", ""), msg.get("reads", [])
        if not isinstance(listed, list) or not all(map(_is_repo, listed)):
            return "the repositories to read are not understood"
        others = {repo: self._others / f"{repo}.git" for repo in listed}
        self._paths = {**others, **({own: self._mirror} if own else {})}
        return None

    def find(self, repo: str) -> Path | None:
        return self._paths.get(repo)


def advertise(mirror: Path) -> bytes:
    """What a client needs to know before a fetch. Raises GitReadError."""
    return advertised(_argv(mirror, "--http-backend-info-refs"))


def upload(mirror: Path, body: Iterable[bytes], *, out: Callable[[bytes], None]) -> None:
    """Answer one request of a fetch. Raises OSError, BodyError of `body` and `out`."""
    Session(_argv(mirror), seconds=_FETCH_SECONDS).exchange(body, out=out)


def inflated(body: Iterable[bytes]) -> Iterator[bytes]:
    """Of a body in gzip, in small pieces. Raises BodyError."""
    stream = zlib.decompressobj(_GZIP)
    try:
        for data in body:
            rest = data
            while rest:
                piece = stream.decompress(rest, _PIECE_BYTES)
                if piece:
                    yield piece
                if stream.eof:
                    return
                rest = stream.unconsumed_tail
    except zlib.error as exc:
        raise BodyError("the request is no gzip") from exc


def _argv(mirror: Path, *options: str) -> list[str]:
    settings = [word for option in _OPTIONS for word in ("-c", option)]
    return ["git", *settings, "upload-pack", "--stateless-rpc", *options, "--strict", str(mirror)]


def _is_repo(name: object) -> bool:
    """Two parts that no path could make something else of."""
    if not isinstance(name, str):
        return False
    parts = name.split("/")
    return len(parts) == 2 and all(part.strip(".") and "\0" not in part for part in parts)  # noqa: PLR2004 - owner/name
