"""Getting the pushed commits out of the gateway's container."""

import re
from typing import Final

import docker

from runner.docker.spec import QUARANTINE, USERS
from runner.docker.stream import Cancellable, Stream
from runner.engine import mapped
from runner.errors import SandboxLostError

REPOSITORY: Final = f"{QUARANTINE}/repo.git"
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
            return Cancellable(self._api.exec_start(self._id, stream=True, demux=True))

    def complain(self, text: bytes) -> None:
        """Keep the end of what git says on its standard error."""
        self._complaints = (self._complaints + text)[-_TAIL:]

    def finish(self) -> None:
        """Raises SandboxLostError unless git succeeded."""
        status = self._api.exec_inspect(self._id)["ExitCode"]
        if status != 0:
            said = self._complaints.decode("utf-8", "replace").strip()
            raise SandboxLostError(f"git made no bundle (status {status}): {said}")
