"""What must not be there in the end: each check tells what it has found, under a short name. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain

from bot.states import IN_SANDBOX
from bot.store.audit import AuditReport
from bot.store.rows import OutboxRow, RunRow, TaskRow
from tests.chaos.remains import Arrived, Container, Remains
from tests.support.linear.entities import Session

Starts = Mapping[str, int]
"""How many agents were started for a run."""
Times = Sequence[tuple[datetime, datetime]]


def all_of(left: Remains, *, starts: Starts, lost: Collection[str]) -> list[str]:
    """`lost`: runs that a Docker daemon took along."""
    return list(
        chain(
            leases(left.leases, hosts=left.hosts, rows=left.tasks),
            claims(left.claims),
            runs(left.runs, starts=starts, lost=lost),
            ends(left.runs, left.ends),
            inbox(left.arrived),
            outbox(left.said, at=left.at),
            containers(left.containers, rows=left.tasks, starts=starts),
            record(left.record),
        )
    )


def taken_along(rows: Collection[RunRow], *, there: Collection[str], away: Times) -> set[str]:
    """Runs that came to nothing while the daemon that had started them was away."""
    return {
        key(row)
        for row in rows
        if key(row) in there and row.outcome != "done" and any(_overlaps(row, gap) for gap in away)
    }


def _overlaps(row: RunRow, gap: tuple[datetime, datetime]) -> bool:
    since, until = gap
    return row.queued_at <= until and (row.ended_at is None or row.ended_at >= since)


def key(row: RunRow) -> str:
    return f"{row.task}:{row.fence}"


def leases(
    held: Mapping[str, str], *, hosts: Collection[str], rows: Collection[TaskRow]
) -> Iterator[str]:
    at_work = {row.id for row in rows if row.state in IN_SANDBOX}
    for task, holder in held.items():
        if task not in at_work:
            yield f"lease: {holder} holds {task}, which is not at work"
        elif holder.rpartition(":")[0] not in hosts:
            yield f"lease: {holder} holds {task}, and that host does not live"


def claims(of_hosts: Mapping[str, Collection[str]]) -> Iterator[str]:
    for host, claimed in of_hosts.items():
        yield from (f"claim: {host} has not cleaned up {run}" for run in claimed)


def runs(rows: Collection[RunRow], *, starts: Starts, lost: Collection[str]) -> Iterator[str]:
    """Each run that began is a container that was started, and the other way round."""
    known = {key(row) for row in rows}
    yield from (
        f"run: {run} was started, and there is no row of it" for run in starts if run not in known
    )
    for row in rows:
        if row.started_at is not None and not starts.get(key(row)):
            yield f"run: {key(row)} began, and no container was started"
        if row.started_at is None and starts.get(key(row)) and key(row) not in lost:
            yield f"run: {key(row)} was started, and has not begun ({row.outcome}: {row.reason})"


def ends(rows: Collection[RunRow], recorded: Counter[str]) -> Iterator[str]:
    for row in rows:
        if row.ended_at is None:
            yield f"end: {key(row)} has not ended"
    for run, times in recorded.items():
        if times > 1:
            yield f"end: {run} ended {times} times"


def inbox(arrived: Collection[Arrived]) -> Iterator[str]:
    for one in arrived:
        if one.state not in {"done", "ignored"}:
            yield f"inbox: {one.id} of {one.source} is {one.state}: {one.error}"


def outbox(said: Collection[OutboxRow], *, at: datetime) -> Iterator[str]:
    for row in said:
        if row.state == "sending" and row.claim_until is not None and row.claim_until < at:
            yield f"outbox: {row.id} of {row.task} is sending, past the end of its claim"
        elif row.state != "sent":
            yield f"outbox: {row.id} of {row.task} is {row.state}: {row.error}"


def containers(
    left: Collection[Container], *, rows: Collection[TaskRow], starts: Starts
) -> Iterator[str]:
    """None is left, and none was there ever that was nobody's."""
    known = {row.id for row in rows}
    for one in left:
        whose = f"of {one.task}" if one.task in known else "of no task"
        yield f"container: {one.id} is left, {one.role} {whose}"
    for run in starts:
        if run.partition(":")[0] not in known:
            yield f"container: one was started for {run}, which is no task's"


def record(report: AuditReport) -> Iterator[str]:
    if report.broken_at is not None:
        yield f"audit: broken at row {report.broken_at}: {report.reason}"


def linear(sessions: Collection[Session]) -> Iterator[str]:
    """Each thing is said once in a session: its id is made from what it says."""
    for session in sessions:
        said = Counter(
            (act.content.type, act.content.body, act.content.action, act.content.parameter)
            for act in session.history
            if act.content.type not in {"prompt", "response"} and not act.ephemeral
        )
        for (kind, *words), times in said.items():
            if times > 1:
                yield f"linear: {session.issue.identifier}: {times} times {kind} {' '.join(filter(None, words))}"


def kills(spared: Collection[str]) -> Iterator[str]:
    yield from (f"kill: {kind} was never killed" for kind in spared)
