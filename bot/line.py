"""In which order what waits is taken: pure. Dispatch takes it so, and cards say so."""

from collections import Counter
from collections.abc import Sequence

from bot.store import tasks
from bot.store.rows import TaskRow
from policies.model import Limits


def in_turn(waiting: Sequence[TaskRow], live: Sequence[TaskRow]) -> list[TaskRow]:
    """The urgent first; then the repository next that has least at work, and of one repository the oldest."""
    at_work = Counter(task.repo for task in live)
    turns: dict[str, int] = {}
    for task in waiting:
        turns[task.id] = at_work[task.repo]
        at_work[task.repo] += 1
    return sorted(waiting, key=lambda task: (tasks.urgency(task.priority), turns[task.id]))


def may_join(task: TaskRow, live: Sequence[TaskRow], limits: Limits) -> bool:
    """Do its person and its repository have room? Whether there is room at all is another question."""
    return (
        sum(t.requester == task.requester for t in live) < limits.tasks_per_person
        and sum(t.repo == task.repo for t in live) < limits.tasks_per_repo
    )


def line(
    waiting: Sequence[TaskRow], live: Sequence[TaskRow], limits: Limits
) -> list[TaskRow]:
    """All that waits, in the order in which dispatch would take it if room came one by one.

    What a person or a repository has no room for comes after what could begin.
    """
    here, later, each = [], [], Counter[tuple[str, str]]()
    for task in waiting:
        each[task.repo, task.requester] += 1
        first = each[task.repo, task.requester] <= limits.tasks_per_person
        (here if first else later).append(task)
    joined, held, begun = list(live), [], []
    for task in in_turn(here, live):
        if may_join(task, joined, limits):
            joined.append(task)
            begun.append(task)
        else:
            held.append(task)
    return [*begun, *held, *later]
