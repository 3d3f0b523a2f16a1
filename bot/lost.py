"""What becomes of a task whose run was lost: pure."""

from dataclasses import dataclass
from datetime import datetime

from bot.progress import View, final
from bot.states import MAX_ATTEMPTS, TaskState
from bot.store.rows import RunRow, TaskRow
from integrations.channel import Final
from runner.protocol import Finished

UNSEEN = "its launch was lost before a host had taken it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    to: TaskState
    attempts: int
    """Of the round, afterwards."""
    reason: str
    last_word: Final | None
    """None if the task is queued again."""


def after_loss(
    task: TaskRow, run: RunRow | None, *, owner: str | None, reason: str, now: datetime
) -> Loss:
    """What is lost with a run: an attempt, unless no host ever had it.

    `owner` is the host that claimed it, as Redis knows; SQL knows of those that were seen to.
    """
    if task.state is TaskState.STOPPING:
        word = _stopped(task, run, now)
        return Loss(to=TaskState.STOPPED, attempts=task.attempts, reason=reason, last_word=word)
    if not owner and (run is None or not (run.host or run.started_at)):
        return Loss(to=TaskState.QUEUED, attempts=task.attempts - 1, reason=UNSEEN, last_word=None)
    if task.attempts < MAX_ATTEMPTS:
        return Loss(to=TaskState.QUEUED, attempts=task.attempts, reason=reason, last_word=None)
    text = f"Gave up after {task.attempts} attempts: {reason}."
    word = Final(outcome="failed", text=text, asked_by=task.requester_name)
    return Loss(to=TaskState.FAILED, attempts=task.attempts, reason=reason, last_word=word)


def _stopped(task: TaskRow, run: RunRow | None, now: datetime) -> Final:
    if run is None or run.started_at is None:
        text = "Stopped before it began."
        return Final(outcome="stopped", text=text, asked_by=task.requester_name)
    reason = "Its host did not come back, so what it had done so far could not be kept."
    finished = Finished(outcome="stopped", reason=reason)
    view, seconds = View.model_validate(run.view), run.elapsed_seconds(now)
    return final(task, view, finished, elapsed_seconds=seconds)
