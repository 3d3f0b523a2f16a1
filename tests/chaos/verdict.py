"""What must be true in the end, and one line that says whether it is."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.states import TERMINAL, TaskState
from bot.store import tasks
from bot.store.errors import StoreError
from bot.store.rows import OutboxRow, TaskRow
from tests.chaos import checks
from tests.chaos.people import People, note
from tests.chaos.remains import ALL, gathered, said
from tests.chaos.site import CHANNEL, Site
from tests.support.slack_limits import parsed

SILENT = ("mark", "open")
"""Kinds of which no message of their own is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many there are, so many there should be, and how many are there more than once."""

    found: int
    wanted: int
    doubled: int = 0

    @property
    def lost(self) -> int:
        return max(0, self.wanted - self.found)

    @property
    def whole(self) -> bool:
        return self.found == self.wanted and not self.doubled


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    tasks: Count
    starts: Count
    posts: Count
    pulls: Count
    wrong: list[str] = field(default_factory=list)
    """What else is not as it should be."""

    @property
    def holds(self) -> bool:
        counts = (self.tasks, self.starts, self.posts, self.pulls)
        return all(count.whole for count in counts) and not self.wrong

    @property
    def line(self) -> str:
        return (
            f"tasks {self.tasks.found}/{self.tasks.wanted}"
            f" starts {self.starts.found} doubled {self.starts.doubled}"
            f" posts {self.posts.found}/{self.posts.wanted}"
            f" doubled {self.posts.doubled} lost {self.posts.lost}"
            f" prs {self.pulls.found} doubled {self.pulls.doubled}"
        )


async def mostly_ended(site: Site, wanted: int) -> bool:
    """Nine errands in ten have ended."""
    try:
        rows, _ = await _stored(site)
    except StoreError:
        return False  # the database is down
    return sum(row.state in TERMINAL for row in rows) >= wanted * 0.9


async def progress(site: Site) -> int:
    """Grows with everything that ends and everything that is said; 0 while the database is down."""
    try:
        rows, words = await _stored(site)
    except StoreError:
        return 0
    # Not how many are sent: one whose text has changed is not, for a while.
    return sum(row.state in TERMINAL for row in rows) + sum(row.sent_version for row in words)


async def settled(site: Site, wanted: int) -> bool:
    """Every errand has ended, and everything was said."""
    try:
        rows, words = await _stored(site)
    except StoreError:
        return False
    ended = len(rows) >= wanted and all(row.state in TERMINAL for row in rows)
    return ended and not any(row.state in {"pending", "sending"} for row in words)


async def _stored(site: Site) -> tuple[list[TaskRow], list[OutboxRow]]:
    async with site.errand.store() as store, store.read() as conn:
        return await tasks.listing(conn, limit=ALL), await said(conn)


async def judge(site: Site, people: People, *, wanted: int, spared: Sequence[str]) -> Verdict:
    """`wanted`: so many errands should have ended with a pull request; `spared`: what was never killed."""
    left = await gathered(site)
    pulls, starts = site.pulls(), site.starts.by_run()
    there = site.starts.on(site.dockerd.url) if site.dockerd else set()
    lost = checks.taken_along(left.runs, there=there, away=site.docker_away)
    stopped = [row for row in left.tasks if row.conversation.thread in people.stopped]
    whole = [row for row in left.tasks if row not in stopped]
    well = [row for row in whole if row.state is TaskState.SUCCEEDED]
    ours = {row.id for row in whole}
    # A daemon takes its containers along, and what was in them begins again, under a new number.
    begun = sum(n for run, n in starts.items() if run.split(":")[0] in ours and run not in lost)
    return Verdict(
        tasks=Count(found=len(well), wanted=wanted, doubled=max(0, len(whole) - wanted)),
        starts=Count(found=begun, wanted=wanted, doubled=_more(starts)),
        posts=_posts(site, people, left.said),
        pulls=Count(found=len(pulls), wanted=wanted, doubled=_more(pulls)),
        wrong=[
            *(f"task: {row.id} is {row.state}: {row.reason}" for row in whole if row not in well),
            *(problem for row in stopped if (problem := _stopped_ill(row, site, people, lost))),
            *checks.all_of(left, starts=starts, lost=lost),
            *checks.linear(people.sessions),
            *checks.kills(spared),
        ],
    )  # fmt: skip


def _stopped_ill(row: TaskRow, site: Site, people: People, lost: Collection[str]) -> str:
    """What is wrong with an errand that was stopped at work; a daemon takes along what was in its containers."""
    if row.state is not TaskState.STOPPED:
        return f"stop: {row.id} was stopped and is {row.state}: {row.reason}"
    written = note(people.threads.index(row.conversation.thread))
    if f"{row.id}:{row.fence}" not in lost and written not in site.files(row.branch):
        return f"stop: {row.id} was stopped, and its work is lost"
    return ""


def _posts(site: Site, people: People, words: list[OutboxRow]) -> Count:
    """In Slack each message by its key; in Linear each session's one last word."""
    wanted = {
        row.id for row in words if row.conversation.channel == "slack" and row.kind not in SILENT
    }
    keys = Counter(key for message in site.slack.messages[CHANNEL] if (key := _key(message)))
    last = [len(session.said("response")) for session in people.sessions]
    return Count(
        found=len(wanted & set(keys)) + sum(1 for n in last if n),
        wanted=len(wanted) + len(last),
        doubled=_more(keys) + sum(max(0, n - 1) for n in last),
    )


def _key(message: dict[str, object]) -> str:
    told: dict[str, Any] = parsed(message.get("metadata") or "{}")
    return str(told.get("event_payload", {}).get("key", ""))


def _more(times: Counter[str]) -> int:
    return sum(n - 1 for n in times.values())
