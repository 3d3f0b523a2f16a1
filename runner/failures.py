"""What the end of a run says, where it failed for a reason that we know."""

from collections.abc import Mapping
from typing import Final

from runner.errors import (
    ForgeRefusedError,
    NotEquippedError,
    RepoSettingsError,
    RunnerError,
    SandboxDiffersError,
    SandboxLostError,
    SandboxStartError,
    ServeUnavailableError,
    WorkspaceError,
)
from runner.protocol import Finished

_WORDS: Final[Mapping[type[RunnerError], str]] = {
    SandboxDiffersError: "The sandbox was set aside: ",
    SandboxStartError: "The sandbox could not be started: ",
    SandboxLostError: "The sandbox was lost: ",
    WorkspaceError: "The repository could not be read: ",
    ServeUnavailableError: "The work could not be handed in: ",
}


def failure(error: RunnerError) -> Finished:
    """What people have to settle would fail again; all else is ours, and worth another attempt."""
    if isinstance(error, RepoSettingsError | NotEquippedError):
        return Finished(outcome="failed", reason=str(error))
    if isinstance(error, ForgeRefusedError):
        return Finished(outcome="failed", reason=f"The forge refuses: {error}")
    said = next((words for kind, words in _WORDS.items() if isinstance(error, kind)), "")
    return Finished(outcome="failed", reason=f"{said}{error}", infrastructure=True)
