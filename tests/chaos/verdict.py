"""What must be true in the end, and one line that says whether it is."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bot.states import TERMINAL, TaskState
from bot.store import outbox, tasks
from bot.store.errors import StoreError
from bot.store.rows import OutboxRow, TaskRow
from tests.chaos.people import People, note
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
        rows, said = await _stored(site)
    except StoreError:
        return 0
    return sum(row.state in TERMINAL for row in rows) + sum(row.state == "sent" for row in said)


async def settled(site: Site, wanted: int) -> bool:
    """Every errand has ended, and everything was said."""
    try:
        rows, said = await _stored(site)
    except StoreError:
        return False
    ended = len(rows) >= wanted and all(row.state in TERMINAL for row in rows)
    return ended and not any(row.state in {"pending", "sending"} for row in said)


async def judge(site: Site, people: People, *, wanted: int) -> Verdict:
    """`wanted`: so many errands should have ended with a pull request."""
    rows, said = await _stored(site)
    pulls, starts = site.pulls(), site.starts.by_run()
    stopped = [row for row in rows if row.conversation.thread in people.stopped]
    whole = [row for row in rows if row not in stopped]
    well = [row for row in whole if row.state is TaskState.SUCCEEDED]
    ours = {row.id for row in whole}
    begun = Counter({run: n for run, n in starts.items() if run.split(":")[0] in ours})
    # A daemon takes its containers along, and what was in them begins again, under a new number.
    times = begun.total() if site.dockerd is None else len({run.split(":")[0] for run in begun})
    return Verdict(
        tasks=Count(found=len(well), wanted=wanted, doubled=max(0, len(whole) - wanted)),
        starts=Count(found=times, wanted=wanted, doubled=_more(starts)),
        posts=_posts(site, people, said),
        pulls=Count(found=len(pulls), wanted=wanted, doubled=_more(pulls)),
        wrong=[
            *(f"{row.id} is {row.state}: {row.reason}" for row in whole if row not in well),
            *(problem for row in stopped if (problem := _stopped_ill(row, site, people))),
            *(f"{row.id} of {row.task} is {row.state}: {row.error}" for row in said if row.state != "sent"),
            *(f"container {found} is left" for found in site.errand.containers()),
        ],
    )  # fmt: skip


def _stopped_ill(row: TaskRow, site: Site, people: People) -> str:
    """What is wrong with an errand that was stopped at work; a daemon takes along what was in its containers."""
    if row.state is not TaskState.STOPPED:
        return f"{row.id} was stopped and is {row.state}: {row.reason}"
    written = note(people.threads.index(row.conversation.thread))
    if site.dockerd is None and written not in site.files(row.branch):
        return f"{row.id} was stopped, and its work is lost"
    return ""


async def _stored(site: Site) -> tuple[list[TaskRow], list[OutboxRow]]:
    async with site.errand.store() as store, store.read() as conn:
        rows = await tasks.listing(conn, limit=100_000)
        return rows, [said for row in rows for said in await outbox.of_task(conn, row.id)]


def _posts(site: Site, people: People, said: list[OutboxRow]) -> Count:
    """In Slack each message by its key; in Linear each session's one last word."""
    wanted = {
        row.id for row in said if row.conversation.channel == "slack" and row.kind not in SILENT
    }
    keys = Counter(key for message in site.slack.messages[CHANNEL] if (key := _key(message)))
    words = [len(session.said("response")) for session in people.sessions]
    return Count(
        found=len(wanted & set(keys)) + sum(1 for n in words if n),
        wanted=len(wanted) + len(words),
        doubled=_more(keys) + sum(max(0, n - 1) for n in words),
    )


def _key(message: dict[str, object]) -> str:
    told: dict[str, Any] = parsed(message.get("metadata") or "{}")
    return str(told.get("event_payload", {}).get("key", ""))


def _more(times: Counter[str]) -> int:
    return sum(n - 1 for n in times.values())
