"""In which order what waits is taken: pure. Dispatch takes it so, and cards say so."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from bot.store import tasks
from bot.store.rows import TaskRow

LOOKED_AT = 500
"""So many of those that wait are put in order."""
NEXT = "waits in line, and is next"
"""Where it is so for a while: it waits for room on a host, or for a host."""
EXACT = 20
"""Nobody who is further back counts the places one by one."""


class InLine(Protocol):
    """What counts of a task."""

    @property
    def id(self) -> str: ...
    @property
    def repo(self) -> str: ...
    @property
    def requester(self) -> str: ...
    @property
    def priority(self) -> int: ...


T = TypeVar("T", bound=InLine)


class Room(BaseModel):
    """How many tasks may be at work at a time; those of the grant, where it says so."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tasks_per_person: int = 3
    tasks_per_repo: int = 5


def room_of(task: TaskRow) -> Room:
    return Room.model_validate(task.grant.get("limits") or {})


def in_turn(waiting: Sequence[T], live: Sequence[InLine]) -> list[T]:
    """The urgent first; then the repository next that has least at work, and of one repository the oldest."""
    at_work = Counter(task.repo for task in live)
    turns: dict[str, int] = {}
    for task in waiting:
        turns[task.id] = at_work[task.repo]
        at_work[task.repo] += 1
    return sorted(waiting, key=lambda task: (tasks.urgency(task.priority), turns[task.id]))


def line(waiting: Sequence[T], live: Sequence[InLine], room: Room) -> list[T]:
    """All that waits, in the order in which dispatch takes it as room comes.

    Those for whom their person or repository has no room now come last.
    """
    people, repos = Counter(t.requester for t in live), Counter(t.repo for t in live)
    could = [
        task
        for task in waiting
        if people[task.requester] < room.tasks_per_person and repos[task.repo] < room.tasks_per_repo
    ]
    could = _first(could, room.tasks_per_person, of=lambda task: (task.repo, task.requester))
    could = _first(could, room.tasks_per_repo, of=lambda task: task.repo)
    taken: dict[str, T] = {}
    for task in in_turn(could, live):
        if (
            people[task.requester] < room.tasks_per_person
            and repos[task.repo] < room.tasks_per_repo
        ):
            taken[task.id] = task
            people[task.requester] += 1
            repos[task.repo] += 1
    return [*taken.values(), *(task for task in waiting if task.id not in taken)]


def in_words(ahead: int | None) -> str:
    """How much is before a task in line; None: more than is looked at.

    Nothing where it is next: it starts at once, mostly. Far back it is round, so that not each start changes all cards.
    """
    match ahead:
        case None:
            return f"waits in line, more than {LOOKED_AT} before it"
        case 0:
            return ""
        case _ if ahead <= EXACT:
            return f"waits in line, {ahead} before it"
        case _:
            step = 10 if ahead < 100 else 100  # noqa: PLR2004  tens, then hundreds
            return f"waits in line, about {round(ahead / step) * step} before it"


def _first(waiting: Sequence[T], number: int, *, of: Callable[[T], Hashable]) -> list[T]:
    seen: Counter[Hashable] = Counter()
    kept = []
    for task in waiting:
        seen[of(task)] += 1
        if seen[of(task)] <= number:
            kept.append(task)
    return kept
