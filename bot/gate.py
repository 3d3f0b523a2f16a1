"""The way of commits from a bundle to a push: through a clean repository of ours, where they are judged again."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from bot.handin import MAX_BUNDLE_BYTES, HandIn, HandIns
from bot.store.rows import TaskRow
from integrations.forge import GitAccess
from policies.model import Grant
from policies.publish import PublishRules, judge
from runner.git import Git, GitError
from runner.gitdir import held
from runner.inside.gitread import GitRead
from runner.protocol import RunKey

log = structlog.get_logger()

MAX_SENTENCES = 10


class RefusedError(Exception):
    """These commits are not published; the sentences are for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Commits that may go, in a repository that lasts as long as the block that opened it."""

    git: Git
    task: TaskRow
    hand_in: HandIn
    there: str | None
    """What the task's branch is at on the forge, if it is there."""

    async def push(self, access: GitAccess, *, ours: Collection[str]) -> None:
        """Put the branch there by SHA, if it is still where it was.

        `access` is for writing; `ours` are SHAs that the branch can have only from us.

        Raises:
            RefusedError: the branch holds what somebody else put there.
        """
        head = self.hand_in.head
        if self.there is not None:
            await self._check_ours(self.there, ours)
        ref = f"refs/heads/{self.task.branch}"
        await self.git.push(
            access.url, header=header_of(access), sha=head, ref=ref, expect=self.there
        )
        log.info("branch_pushed", task=self.task.id, branch=self.task.branch, head=head)

    async def _check_ours(self, there: str, ours: Collection[str]) -> None:
        if there in ours:
            return
        if not self.task.pull_url and not ours:
            raise RefusedError(
                f"the branch {self.task.branch} is already on the forge, and not from here."
            )
        if not await self.git.is_ancestor(there, self.hand_in.head):
            raise RefusedError("somebody has moved the branch on the forge since the work began.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    root: Path
    handed_in: HandIns

    @asynccontextmanager
    async def admit(
        self, task: TaskRow, hand_in: HandIn, *, access: GitAccess, base_branch: str, known: bool
    ) -> AsyncIterator[Admitted]:
        """Fetch what the forge has, take the bundle's commits after fsck, and judge them.

        `access` is for reading; `known` says that the task's branch, if it is on the forge, is from us.

        Raises:
            RefusedError: the commits may not go.
            GitError, GitReadError: git could not; try again.
        """
        run = RunKey(task=task.id, fence=task.fence)
        cache = Git(self.root / "repos" / task.forge / f"{task.repo}.git")
        there = await cache.ls_remote(
            access.url, header=header_of(access), ref=f"refs/heads/{task.branch}"
        )
        branches = [base_branch, *([task.branch] if there and known else [])]
        await _fetch(cache.git_dir, access, branches)
        await _check_base(cache, hand_in, branches)
        quarantine = self.root / "quarantine" / f"{run.task}-{run.fence}.git"
        shutil.rmtree(quarantine, ignore_errors=True)
        try:
            git = await Git.init_bare(quarantine)
            alternates = quarantine / "objects" / "info" / "alternates"
            alternates.write_text(f"{cache.git_dir}/objects\n")
            await self._unpack(git, run, task, hand_in)
            await asyncio.to_thread(_judge, quarantine, hand_in, task)
            yield Admitted(git=git, task=task, hand_in=hand_in, there=there)
        finally:
            shutil.rmtree(quarantine, ignore_errors=True)

    async def _unpack(self, git: Git, run: RunKey, task: TaskRow, hand_in: HandIn) -> None:
        try:
            head = await git.fetch_bundle(
                self.handed_in.bundle(run),
                ref=f"refs/heads/{task.branch}",
                into="refs/heads/handed-in",
                max_bytes=MAX_BUNDLE_BYTES,
            )
        except GitError as error:
            raise RefusedError(f"the bundle of commits can't be taken ({error}).") from error
        if head != hand_in.head:
            raise RefusedError("the bundle does not hold the commit that it was handed in for.")


async def _fetch(path: Path, access: GitAccess, branches: list[str]) -> None:
    """Bring them up to date, while nobody else writes there."""
    refspecs = [f"+refs/heads/{branch}:{_fetched(branch)}" for branch in branches]
    async with held(path) as cache:
        await cache.fetch(access.url, header=header_of(access), refspecs=refspecs)


def _fetched(branch: str) -> str:
    """Not by its name: what is gone on the forge stays here, and `fix` would be in the way of `fix/2`."""
    return f"refs/fetched/{hashlib.sha256(branch.encode()).hexdigest()}"


async def _check_base(cache: Git, hand_in: HandIn, branches: list[str]) -> None:
    """Only what comes after the base is judged, so the base itself must be the forge's."""
    if await cache.rev_parse(hand_in.base) is not None:
        for branch in branches:
            if await cache.is_ancestor(hand_in.base, _fetched(branch)):
                return
    raise RefusedError("the commit that the work began from is not on the forge (any more).")


def _judge(quarantine: Path, hand_in: HandIn, task: TaskRow) -> None:
    ref = f"refs/heads/{task.branch}"
    change = GitRead(quarantine).change(base=hand_in.base, head=hand_in.head, refs=(ref,))
    limits = Grant.model_validate(task.grant).publish
    rules = PublishRules(
        protected=limits.protected,
        max_files=limits.max_files,
        max_bytes=limits.max_bytes,
        max_commits=limits.max_commits,
        ref=ref,
    )
    if objections := judge(change, limits=rules):
        raise RefusedError(" ".join(o.sentence for o in objections[:MAX_SENTENCES]))


def header_of(access: GitAccess) -> str | None:
    return access.header.get_secret_value() if access.header else None
