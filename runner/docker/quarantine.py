"""Getting the pushed commits out of the gateway's container."""

import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import docker
from docker.types.daemon import CancellableStream

from runner.docker.spec import QUARANTINE, USERS
from runner.docker.stream import Cancellable, Stream
from runner.engine import mapped
from runner.errors import SandboxLostError

REPOSITORY: Final = f"{QUARANTINE}/repo.git"
_UPGRADE: Final = {"Connection": "Upgrade", "Upgrade": "tcp"}
_HEAD: Final = struct.Struct(">BxxxL")
_OUT: Final = 1
BUNDLE_BYTES: Final = 256 * 1024 * 1024
"""As much as the quarantine holds."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_BRANCH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_ENVIRONMENT: Final = {
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_USER: Final = f"{USERS['gateway']}:{USERS['gateway']}"
_TAIL: Final = 2000


def bundle_command(*, base: str, branch: str) -> list[str]:
    """Raises SandboxLostError for what is no commit or no branch; no shell sees it, git's options might."""
    if not _COMMIT.fullmatch(base):
        raise SandboxLostError(f"{base!r} is no commit id")
    if not _BRANCH.fullmatch(branch) or ".." in branch:
        raise SandboxLostError(f"{branch!r} is no branch of ours")
    command = ["git", f"--git-dir={REPOSITORY}", "bundle", "create", "--quiet", "-"]
    return [*command, f"{base}..refs/heads/{branch}"]


class BundleRun:
    """One `git bundle create` in a container. Blocking."""

    def __init__(self, api: docker.APIClient, *, container: str, command: list[str]) -> None:
        self._api = api
        made = api.exec_create(container, command, user=_USER, environment=_ENVIRONMENT)
        self._id = str(made["Id"])
        self._complaints = b""

    def start(self) -> Stream[tuple[bytes | None, bytes | None]]:
        """Pieces of standard output and of standard error."""
        with mapped(SandboxLostError):
            answer = self._answer()
            buffered = answer.raw._fp.fp  # noqa: SLF001 - see `_answer`
            return Cancellable(CancellableStream(_frames(buffered), answer))

    def _answer(self) -> Any:
        """As the docker package's `exec_start`, which loses what arrives together with the head of the answer.

        It reads past the buffer in which that lies, and a small bundle is all there.
        """
        url = self._api._url("/exec/{0}/start", self._id)  # type: ignore[attr-defined]  # noqa: SLF001
        answer = self._api._post_json(  # type: ignore[attr-defined]  # noqa: SLF001
            url, headers=_UPGRADE, data={"Tty": False, "Detach": False}, stream=True
        )
        self._api._raise_for_status(answer)  # type: ignore[attr-defined]  # noqa: SLF001
        return answer

    def complain(self, text: bytes) -> None:
        """Keep the end of what git says on its standard error."""
        self._complaints = (self._complaints + text)[-_TAIL:]

    def finish(self) -> None:
        """Raises SandboxLostError unless git succeeded."""
        status = self._api.exec_inspect(self._id)["ExitCode"]
        if status != 0:
            said = self._complaints.decode("utf-8", "replace").strip()
            raise SandboxLostError(f"git made no bundle (status {status}): {said}")


def _frames(reader: BinaryIO) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Docker's framing of two streams in one."""
    while len(head := reader.read(_HEAD.size)) == _HEAD.size:
        kind, size = _HEAD.unpack(head)
        piece = reader.read(size)
        if len(piece) < size:
            raise SandboxLostError("the bundle came without its end")
        yield (piece, None) if kind == _OUT else (None, piece)
