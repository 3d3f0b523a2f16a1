"""From handed-in commits to a pull request: judged again, pushed by SHA, opened once.

Every step looks before it acts, so that a publication which was interrupted anywhere can simply begin again.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from bot.handin import MAX_BUNDLE_BYTES, HandIn, HandIns
from bot.intake import Signal, utc_now
from bot.progress import Published, View, final
from bot.record import record
from bot.states import TaskState
from bot.store import events, runs, tasks
from bot.store.engine import Store
from bot.store.errors import StoreError
from bot.store.rows import RunRow, TaskRow
from bot.tasks import end_round
from integrations.channel import Final
from integrations.errors import IntegrationError, RateLimitedError, RejectedError, UnavailableError
from integrations.forge import Forge, GitAccess, Pull, PullDraft
from policies.model import Grant
from policies.publish import PublishRules, judge
from runner.errors import WorkspaceError
from runner.git import Git, PushRejectedError
from runner.inside.errors import GitReadError
from runner.inside.gitread import GitRead
from runner.protocol import Finished, RunKey

log = structlog.get_logger()

SWEEP_SECONDS = 5.0
RETRY_SECONDS = 10.0
MAX_BODY = 8000


class RefusedError(Exception):
    """The publish gate refused; the sentences are for people."""


@dataclass(slots=True, kw_only=True)
class Publisher:
    """Publishes tasks in state `publishing`."""

    store: Store
    forges: Mapping[str, Forge]
    handed_in: HandIns
    root: Path
    finished: Signal
    spoken: Signal
    now: Callable[[], datetime] = utc_now
    _not_before: dict[str, datetime] = field(default_factory=dict)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                await self.step()
            except StoreError:
                log.exception("publish_store_unreachable")
            await self.finished.wait(SWEEP_SECONDS)

    async def step(self) -> None:
        async with self.store.read() as conn:
            waiting = await tasks.in_states(conn, {TaskState.PUBLISHING})
        for task in waiting:
            if self._not_before.get(task.id, self.now()) <= self.now():
                await self._attempt(task)

    async def _attempt(self, task: TaskRow) -> None:
        try:
            await self.publish(task)
        except (RefusedError, RejectedError, PushRejectedError, FileNotFoundError) as error:
            await self._fail(task, _why(error))
        except RateLimitedError as error:
            self._later(task, error.retry_after)
        except (UnavailableError, WorkspaceError, GitReadError, IntegrationError) as error:
            log.warning("publish_postponed", task=task.id, error=str(error))
            self._later(task, RETRY_SECONDS)
        else:
            self._not_before.pop(task.id, None)

    def _later(self, task: TaskRow, seconds: float) -> None:
        self._not_before[task.id] = self.now() + timedelta(seconds=seconds)

    async def publish(self, task: TaskRow) -> None:
        """One publication, from quarantine to the last word."""
        run = RunKey(task=task.id, fence=task.fence)
        forge = self.forges[task.forge]
        grant = Grant.model_validate(task.grant)
        hand_in = self.handed_in.hand_in(run)
        base_branch = await forge.default_branch(task.repo)
        quarantine = self._quarantine(run)
        try:
            git = await self._admit(
                task, hand_in, await forge.access(task.repo, write=False), base_branch, quarantine
            )
            await asyncio.to_thread(_judge, quarantine, hand_in, task, grant)
            await self._push(git, task, hand_in, await forge.access(task.repo, write=True))
            files, added, removed = await git.numstat(hand_in.base, hand_in.head)
            pull = await self._pull(forge, task, base_branch, draft=grant.publish.draft)
        finally:
            shutil.rmtree(quarantine, ignore_errors=True)
        published = Published(
            url=pull.url,
            label=f"#{pull.number}",
            files=files,
            added=added,
            removed=removed,
        )
        await self._succeed(task, run, hand_in, published)

    def _quarantine(self, run: RunKey) -> Path:
        path = self.root / "quarantine" / f"{run.task}-{run.fence}.git"
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    async def _admit(
        self, task: TaskRow, hand_in: HandIn, access: GitAccess, base_branch: str, quarantine: Path
    ) -> Git:
        """A clean bare repository that knows the base, and the bundle's commits after fsck."""
        cache = await Git.init_bare(self.root / "repos" / task.forge / f"{task.repo}.git")
        branches = [base_branch, task.branch] if task.pull_url else [base_branch]
        await cache.fetch(
            access.url,
            header=_header(access),
            refspecs=[f"+refs/heads/{branch}:refs/heads/{branch}" for branch in branches],
        )
        git = await Git.init_bare(quarantine)
        alternates = quarantine / "objects" / "info" / "alternates"
        alternates.write_text(f"{cache.git_dir}/objects\n")
        head = await git.fetch_bundle(
            self.handed_in.bundle(RunKey(task=task.id, fence=task.fence)),
            ref=f"refs/heads/{task.branch}",
            into="refs/heads/handed-in",
            max_bytes=MAX_BUNDLE_BYTES,
        )
        if head != hand_in.head:
            raise RefusedError("the bundle does not hold the commit that it was handed in for.")
        return git

    async def _push(self, git: Git, task: TaskRow, hand_in: HandIn, access: GitAccess) -> None:
        ref = f"refs/heads/{task.branch}"
        there = await git.ls_remote(access.url, header=_header(access), ref=ref)
        if there == hand_in.head:
            return
        await git.push(access.url, header=_header(access), sha=hand_in.head, ref=ref, expect=there)
        log.info("branch_pushed", task=task.id, branch=task.branch, head=hand_in.head)

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
        return body(task, View.model_validate(run.view) if run else View())

    async def _succeed(
        self, task: TaskRow, run: RunKey, hand_in: HandIn, published: Published
    ) -> None:
        now = self.now()
        async with self.store.begin() as tx:
            moved = await tasks.move(
                tx,
                task.id,
                to=TaskState.SUCCEEDED,
                old=[TaskState.PUBLISHING],
                fence=task.fence,
                changed_at=now,
                ended_at=now,
                pull_url=published.url,
            )
            if not moved:
                return
            await record(
                tx,
                now=now,
                actor="publish",
                action="published",
                task=task.id,
                decision="granted",
                policy_hash=task.policy_hash,
                url=published.url,
                head=hand_in.head,
                base=hand_in.base,
            )
            row = await runs.get(tx, task.id, task.fence)
            stored = await events.of_task(tx, task.id, fence=task.fence)
            last = next(
                (e.record.event for e in reversed(stored) if isinstance(e.record.event, Finished)),
                None,
            )
            word = final(
                task,
                View.model_validate(row.view) if row else View(),
                last or Finished(outcome="done"),
                elapsed_seconds=_elapsed(row, now),
                published=published,
            )
            await end_round(tx, task.id, word, now=now)
        self.handed_in.forget_bundle(run)
        self.spoken.set()

    async def _fail(self, task: TaskRow, reason: str) -> None:
        now = self.now()
        async with self.store.begin() as tx:
            moved = await tasks.move(
                tx,
                task.id,
                to=TaskState.FAILED,
                old=[TaskState.PUBLISHING],
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
            word = Final(
                outcome="failed",
                text=f"The work was done but not published: {reason}",
                elapsed_seconds=_elapsed(row, now),
                asked_by=task.requester_name,
            )
            await end_round(tx, task.id, word, now=now)
        self.spoken.set()


def _judge(quarantine: Path, hand_in: HandIn, task: TaskRow, grant: Grant) -> None:
    ref = f"refs/heads/{task.branch}"
    change = GitRead(quarantine).change(base=hand_in.base, head=hand_in.head, refs=(ref,))
    limits = grant.publish
    rules = PublishRules(
        protected=limits.protected,
        max_files=limits.max_files,
        max_bytes=limits.max_bytes,
        max_commits=limits.max_commits,
        ref=ref,
    )
    if objections := judge(change, limits=rules):
        raise RefusedError(" ".join(o.sentence for o in objections[:10]))


def _header(access: GitAccess) -> str | None:
    return access.header.get_secret_value() if access.header else None


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the commits that were handed in are gone."
    if isinstance(error, PushRejectedError):
        return f"the branch has moved on the forge since the work began ({error})."
    return str(error)


def _elapsed(row: RunRow | None, now: datetime) -> int:
    return int((now - row.started_at).total_seconds()) if row and row.started_at else 0


def body(task: TaskRow, view: View) -> str:
    """The pull request's description: what was asked, by whom, where, and how it was checked."""
    asked = f"[this conversation]({task.link})" if task.link else f"`{task.conversation.key}`"
    quoted = "\n".join(f"> {line}" for line in task.prompt[:MAX_BODY].splitlines())
    checks = "\n".join(f"- `{c.title}`: {c.state}" for c in view.checks)
    said = view.said[:MAX_BODY].replace("@", "@\u200b")
    parts = [
        said,
        f"Asked by {task.requester_name} in {asked}:\n\n{quoted}".replace("@", "@\u200b"),
        f"Checks:\n{checks}" if checks else "",
        f"Errand task `{task.id}`, agent `{view.agent}`, policy `{task.policy_hash[:12]}`.",
    ]
    return "\n\n".join(part for part in parts if part)
