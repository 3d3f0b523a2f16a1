"""From handed-in commits to a pull request, or to the branch only where the run was stopped: judged again, pushed by SHA.

Every step looks before it acts, so that a publication which was interrupted anywhere can simply begin again.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.description import description
from bot.gate import Admitted, Gate, RefusedError
from bot.handin import HandIn, HandIns
from bot.intake import Signal, utc_now
from bot.kept import note_kept
from bot.metrics import Metrics
from bot.patience import FOR_GOOD, FOR_NOW, PUZZLED_SECONDS, patience, why
from bot.progress import Published, View, final
from bot.pulls import watch
from bot.record import record
from bot.said import say_everywhere, show_card
from bot.standing import Standing
from bot.states import TaskState
from bot.store import cursors, events, runs, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from bot.store.rows import TaskRow
from bot.tasks import end_round, pushed_key
from integrations.channel import FileChange, Final, Notice
from integrations.errors import (
    AuthError,
    RateLimitedError,
    UnavailableError,
)
from integrations.forge import Forge, Pull, PullDraft
from policies.model import Grant
from runner.git import GitAuthError
from runner.protocol import Finished, RunKey
from runner.tracing import NoTracing, Tracing

log = structlog.get_logger()

SWEEP_SECONDS = 5.0
RETRY_SECONDS = 10.0
ATTEMPT_SECONDS = 900.0
"""All of one publication: more than any of git's own limits."""
AT_ONCE = 4
"""Publications of one forge at a time, each of another repository: a large one keeps nobody else waiting."""
BREAKS = 3
"""So often what nobody foresaw may break a task's publication; then it is given up."""
BROKEN = "publishing broke. The operator finds the reason in the log. Say `retry` when that has been mended."

ENDINGS = {
    TaskState.PUBLISHING: TaskState.SUCCEEDED,
    TaskState.KEEPING: TaskState.STOPPED,
}
"""What there is to publish, and where that leads."""

KEPT = {
    TaskState.PUBLISHING: "The work is done and kept, but not published yet",
    TaskState.KEEPING: "It is stopped and what it had done is kept, but not on its branch yet",
}
RENEW = "An operator must renew it (`errand doctor` says how); then this goes on by itself."


@dataclass(slots=True, kw_only=True)
class Publisher:
    """Publishes tasks in state `publishing`, and puts on its branch what a stopped one leaves."""

    store: Store
    forges: Mapping[str, Forge]
    handed_in: HandIns
    root: Path
    finished: Signal
    spoken: Signal
    standing: Standing
    now: Callable[[], datetime] = utc_now
    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=NoTracing)
    attempt_seconds: float = ATTEMPT_SECONDS
    _not_before: dict[str, datetime] = field(default_factory=dict)
    """By task, or by forge."""
    _troubled: dict[str, datetime] = field(default_factory=dict)
    """When a task's publication met its first trouble: what waits its turn, or for `serve`, uses up no patience."""
    _breaks: dict[str, int] = field(default_factory=dict)
    _under_way: dict[str, TaskRow] = field(default_factory=dict)
    """What was taken and is not attended to, by its id."""

    async def run(self) -> None:
        """Publish until cancelled."""
        self._under_way.clear()  # an earlier run may have been cancelled before all began
        async with asyncio.TaskGroup() as attempts:
            while True:
                try:
                    for task in await self.take():
                        attempts.create_task(self._attend(task))
                except StoreError:
                    log.exception("publish_store_unreachable")
                await self.finished.wait(SWEEP_SECONDS)

    async def _attend(self, task: TaskRow) -> None:
        try:
            await self.attempt(task)
        except StoreError:
            log.exception("publish_store_unreachable")
        else:
            self.finished.set()  # the next of its repository

    async def take(self) -> list[TaskRow]:
        """What is due and has nothing of its repository before it, the oldest first; each is to be attempted."""
        busy = set(self._under_way)  # before we look: what ends meanwhile is seen as it was
        async with self.store.read() as conn:
            waiting = await tasks.in_states(conn, set(ENDINGS))
        taken = []
        for task in waiting:
            if task.id not in busy and self._is_due(task) and self._has_room(task):
                self._under_way[task.id] = task
                taken.append(task)
        return taken

    def _is_due(self, task: TaskRow) -> bool:
        now = self.now()
        return all(self._not_before.get(name, now) <= now for name in (task.id, task.forge))

    def _has_room(self, task: TaskRow) -> bool:
        repos = [other.repo for other in self._under_way.values() if other.forge == task.forge]
        return len(repos) < AT_ONCE and task.repo not in repos

    async def attempt(self, task: TaskRow) -> None:
        """Publish what was taken, if that is possible now. Raises StoreUnavailableError."""
        try:
            await self._attempt(task)
        finally:
            del self._under_way[task.id]

    async def _attempt(self, task: TaskRow) -> None:
        try:
            if self._breaks.get(task.id, 0) < BREAKS:
                outcome = await self._outcome(task)
            else:
                outcome = "refused"
                await self._fail(task, BROKEN)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it was: one task holds up no other
            outcome = "postponed"
            self._broke(task, error)
        self.metrics.publications.labels(outcome).inc()

    async def _outcome(self, task: TaskRow) -> str:
        outcome = "postponed"
        try:
            with self.tracing.span("publish", task=task.id, forge=task.forge, fence=task.fence):
                async with asyncio.timeout(self.attempt_seconds):
                    await self.publish(task)
        except (AuthError, GitAuthError) as error:
            await self._wait_for_credential(task, error)
        except FOR_GOOD as error:
            outcome = "refused"
            await self._fail(task, why(error))
        except TimeoutError:
            await self._leave_alone(task)
        except FOR_NOW as error:
            await self._later(task, error)
        else:
            outcome = "published"
            self._forget(task)
            await self.standing.accepted(task.forge)
        return outcome

    def _broke(self, task: TaskRow, error: Exception) -> None:
        """Met again after a pause; a long one where it could not even be given up."""
        breaks = self._breaks[task.id] = self._breaks.get(task.id, 0) + 1
        log.error("publish_broke", task=task.id, tries=breaks, exc_info=error)
        seconds = RETRY_SECONDS if breaks <= BREAKS else PUZZLED_SECONDS
        self._not_before[task.id] = self.now() + timedelta(seconds=seconds)

    def _forget(self, task: TaskRow) -> None:
        self._not_before.pop(task.id, None)
        self._breaks.pop(task.id, None)
        self._troubled.pop(task.id, None)

    async def _leave_alone(self, task: TaskRow) -> None:
        """The forge hangs: what else waits for it waits as well, and all the others have their turn."""
        self._not_before[task.forge] = self.now() + timedelta(seconds=RETRY_SECONDS)
        error = UnavailableError(task.forge, f"no end after {self.attempt_seconds:g} s")
        await self._later(task, error)

    async def _wait_for_credential(self, task: TaskRow, error: AuthError | GitAuthError) -> None:
        """The work stays as it is until somebody has renewed it; how long anything else may take counts from then on."""
        log.warning("publish_postponed", task=task.id, error=str(error))
        now, seconds = self.now(), await self.standing.refused(task.forge, error)
        self._troubled.pop(task.id, None)
        self._not_before[task.id] = now + timedelta(seconds=seconds)
        refusal = error.refusal if isinstance(error, GitAuthError) else error
        said = f"the forge does not accept Errand's credential ({refusal})"
        async with self.store.begin() as tx:
            await tasks.update(tx, task.id, changed_at=now)
            notice = Notice(text=f"{KEPT[task.state]}: {said}. {RENEW}", error=True)
            await say_everywhere(tx, task, notice, seq=f"credential:{task.round}", now=now)
            await show_card(tx, task, now=now, note=f"waiting to publish: {said}")
        self.spoken.set()

    async def _later(self, task: TaskRow, error: Exception) -> None:
        """Try again, as long as there is hope; the card says why it waits."""
        log.warning("publish_postponed", task=task.id, error=str(error))
        now = self.now()
        since = self._troubled.setdefault(task.id, now)
        if (now - since).total_seconds() >= patience(task, error):
            await self._fail(task, f"{error}. Say `retry` when that has been mended.")
            return
        seconds = error.retry_after if isinstance(error, RateLimitedError) else RETRY_SECONDS
        self._not_before[task.id] = now + timedelta(seconds=seconds)
        async with self.store.begin() as tx:
            await show_card(tx, task, now=now, note=f"waiting to publish: {error}")
        self.spoken.set()

    async def publish(self, task: TaskRow) -> None:
        """One publication, from quarantine to the last word."""
        run = RunKey(task=task.id, fence=task.fence)
        forge = self.forges.get(task.forge)
        if forge is None:
            raise RefusedError(f"the forge `{task.forge}` is not switched on here.")
        grant = Grant.model_validate(task.grant)
        hand_in = self.handed_in.hand_in(run)
        ours = await self._pushed(task)
        base_branch = await forge.default_branch(task.repo)
        gate = Gate(root=self.root, handed_in=self.handed_in)
        async with gate.admit(
            task,
            hand_in,
            access=await forge.access(task.repo, write=False),
            base_branch=base_branch,
            known=bool(task.pull_url or ours),
        ) as admitted:
            if admitted.there != hand_in.head:
                await self._push(forge, admitted, ours)
            diffs = await admitted.git.numstat(hand_in.base, hand_in.head)
        published = Published(
            changed=tuple(
                FileChange(path=diff.path, added=diff.added, removed=diff.removed) for diff in diffs
            )
        )
        if task.state is TaskState.PUBLISHING:
            with self.tracing.span("pull", task=task.id):
                pull = await self._pull(forge, task, base_branch, draft=grant.publish.draft)
            found = {"url": pull.url, "label": f"#{pull.number}"}
            published = published.model_copy(update=found)
        await self._end(task, run, hand_in, published)

    async def _push(self, forge: Forge, admitted: Admitted, ours: set[str]) -> None:
        """Note what we are about to push first, so that we know it again whatever comes between."""
        task = admitted.task
        access = await forge.access(task.repo, write=True)
        mine = ours & {admitted.there or ""}
        async with self.store.begin() as tx:
            await cursors.put(tx, pushed_key(task.id), " ".join({admitted.hand_in.head, *mine}))
        with self.tracing.span("push", task=task.id):
            await admitted.push(access, ours=ours)

    async def _pushed(self, task: TaskRow) -> set[str]:
        async with self.store.read() as conn:
            return set((await cursors.get(conn, pushed_key(task.id)) or "").split())

    async def _pull(self, forge: Forge, task: TaskRow, base_branch: str, *, draft: bool) -> Pull:
        found = await forge.find_pull(task.repo, head=task.branch)
        if found is not None and found.open:
            return found
        return await forge.open_pull(
            PullDraft(
                repo=task.repo,
                head=task.branch,
                base=base_branch,
                title=task.title,
                body=await self._body(task),
                draft=draft,
            )
        )

    async def _body(self, task: TaskRow) -> str:
        async with self.store.read() as conn:
            run = await runs.get(conn, task.id, task.fence)
        return description(task, View.model_validate(run.view) if run else View())

    async def _end(self, task: TaskRow, run: RunKey, hand_in: HandIn, published: Published) -> None:
        now = self.now()
        async with self.store.begin() as tx:
            moved = await tasks.move(
                tx,
                task.id,
                to=ENDINGS[task.state],
                old=[task.state],
                fence=task.fence,
                changed_at=now,
                ended_at=now,
                pull_url=published.url or task.pull_url,
            )
            if not moved:
                return
            await note_kept(tx, task, hand_in.head if task.state is TaskState.KEEPING else "")
            await record(
                tx,
                now=now,
                actor="publish",
                action="published" if published.url else "kept",
                task=task.id,
                decision="granted",
                policy_hash=task.policy_hash,
                url=published.url,
                head=hand_in.head,
                base=hand_in.base,
            )
            if published.url:
                await watch(tx, task.id, now=now)
            row = await runs.get(tx, task.id, task.fence)
            word = final(
                task,
                View.model_validate(row.view) if row else View(),
                await _finished(tx, task),
                elapsed_seconds=row.elapsed_seconds(now) if row else 0,
                published=published,
            )
            await end_round(tx, task.id, word, now=now)
        self.handed_in.forget_bundle(run)
        self.spoken.set()

    async def _fail(self, task: TaskRow, reason: str) -> None:
        await self._note_failed(task, reason)
        self._forget(task)

    async def _note_failed(self, task: TaskRow, reason: str) -> None:
        now = self.now()
        async with self.store.begin() as tx:
            to = TaskState.FAILED if task.state is TaskState.PUBLISHING else TaskState.STOPPED
            moved = await tasks.move(
                tx,
                task.id,
                to=to,
                old=[task.state],
                fence=task.fence,
                changed_at=now,
                ended_at=now,
                reason=reason,
            )
            if not moved:
                return
            await record(
                tx,
                now=now,
                actor="publish",
                action="published",
                task=task.id,
                decision="refused",
                policy_hash=task.policy_hash,
                reason=reason,
            )
            row = await runs.get(tx, task.id, task.fence)
            stopped = to is TaskState.STOPPED
            lost = (
                "What it had done so far could not be kept"
                if stopped
                else "The work was done but not published"
            )
            word = Final(
                outcome="stopped" if stopped else "failed",
                text=f"{lost}: {reason}",
                elapsed_seconds=row.elapsed_seconds(now) if row else 0,
                asked_by=task.requester_name,
            )
            await end_round(tx, task.id, word, now=now)
        self.spoken.set()


async def _finished(tx: AsyncConnection, task: TaskRow) -> Finished:
    """What the run said last; a stop that it had not heard of counts all the same."""
    last = await events.last(tx, task.id, fence=task.fence, kind="finished")
    said = last.record.event if last else None
    finished = said if isinstance(said, Finished) else Finished(outcome="done")
    if task.state is TaskState.KEEPING:
        return finished.model_copy(update={"outcome": "stopped"})
    return finished
