"""The states of a task and the moves between them: the one place that knows them."""

from enum import StrEnum


class TaskState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    PUBLISHING = "publishing"
    STOPPING = "stopping"
    KEEPING = "keeping"
    """Nothing runs any more; what a stopped run has handed in is being put on the task's branch."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    EXPIRED = "expired"


S = TaskState

TERMINAL = frozenset({S.SUCCEEDED, S.FAILED, S.STOPPED, S.EXPIRED})
"""A task in one of these changes only by a follow-up, which begins a new round."""

IN_SANDBOX = frozenset({S.STARTING, S.RUNNING, S.WAITING, S.STOPPING})
"""A worker holds, or should hold, a lease on the task."""

LIVE = frozenset(S) - TERMINAL

MAX_ATTEMPTS = 3
"""Runs of one round that may be lost to our own faults before the task fails."""

MOVES: dict[TaskState, frozenset[TaskState]] = {
    S.QUEUED: frozenset({S.STARTING, S.STOPPED, S.FAILED, S.EXPIRED}),
    S.STARTING: frozenset({S.RUNNING, S.QUEUED, S.STOPPING, S.FAILED, S.EXPIRED}),
    S.RUNNING: frozenset(
        {S.WAITING, S.PUBLISHING, S.QUEUED, S.STOPPING, S.SUCCEEDED, S.FAILED, S.EXPIRED}
    ),
    S.WAITING: frozenset({S.RUNNING, S.QUEUED, S.STOPPING, S.FAILED, S.EXPIRED}),
    S.PUBLISHING: frozenset({S.SUCCEEDED, S.FAILED, S.STOPPING}),
    S.STOPPING: frozenset({S.STOPPED, S.KEEPING}),
    S.KEEPING: frozenset({S.STOPPED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.STOPPED: frozenset(),
    S.EXPIRED: frozenset(),
}
"""Moves inside one round. Each is a compare-and-set on (id, state, fence)."""


class IllegalMoveError(Exception):
    """A move that the state machine does not have: a bug of ours."""

    def __init__(self, old: TaskState, new: TaskState) -> None:
        super().__init__(f"a task can't go from {old} to {new}")


def check_move(old: TaskState, new: TaskState) -> None:
    if new not in MOVES[old]:
        raise IllegalMoveError(old, new)
