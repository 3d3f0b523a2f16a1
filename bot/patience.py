"""What of a publication's troubles time may mend, how long that is waited for, and what is said of the others."""

from pydantic import ValidationError

from bot.gate import RefusedError
from bot.handin import NothingHandedInError
from bot.states import TaskState
from bot.store.rows import TaskRow
from integrations.errors import (
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from runner.errors import WorkspaceError
from runner.git import PushRejectedError, RemoteUnavailableError
from runner.inside.errors import GitReadError

GIVE_UP_SECONDS = 86_400.0
"""How long a forge that does not answer is asked again."""
PUZZLED_SECONDS = 600.0
"""How long a fault is tried again of which we can't say that time mends it."""

FOR_GOOD = (
    RefusedError,
    RejectedError,
    PushRejectedError,
    NothingHandedInError,
    ValidationError,
)
FOR_NOW = (IntegrationError, WorkspaceError, GitReadError, OSError)


def patience(task: TaskRow, error: Exception) -> float:
    """For how many seconds it is tried again."""
    if task.state is TaskState.KEEPING:
        return PUZZLED_SECONDS  # whoever said stop waits for a word
    passes = isinstance(error, UnavailableError | RateLimitedError | RemoteUnavailableError)
    return GIVE_UP_SECONDS if passes else PUZZLED_SECONDS


def why(error: Exception) -> str:
    """For people, where it is not tried again."""
    match error:
        case PushRejectedError():
            return f"the forge did not take the branch ({error})."
        case NothingHandedInError():
            return "the commits that were handed in are gone. Say `retry` to have them made again."
        case ValidationError():
            return "its grant is from another version of Errand. Say `retry` to be granted anew."
        case _:
            return str(error)
