"""A run's branch: what a ticket has in mind only if nobody has it yet, and a new one after a merge."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from bot.gate import header_of
from bot.store import cursors, tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from bot.tasks import own_branch, pushed_key
from integrations.forge import Forge
from runner.git import Git

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    store: Store
    forges: Mapping[str, Forge]
    root: Path

    async def settle(self, task: TaskRow) -> TaskRow:
        """The task with a branch that it may push; asked before each run, until something was pushed.

        Raises:
            IntegrationError, WorkspaceError: the forge does not answer.
        """
        if task.pull_url:
            return await self._after_a_pull(task)
        own = own_branch(task.id, task.title)
        ours = task.branch == own or task.branch.startswith(f"{own}-")
        if ours or await self._pushed(task):
            return task
        access = await self.forges[task.forge].access(task.repo, write=False)
        ref = f"refs/heads/{task.branch}"
        # A question to the forge alone needs no repository here, and waits for nobody who holds one.
        asking = Git(self.root)
        if await asking.ls_remote(access.url, header=header_of(access), ref=ref) is None:
            return task
        log.info("branch_taken", task=task.id, branch=task.branch, instead=own)
        async with self.store.begin() as tx:
            await tasks.update(tx, task.id, branch=own)
        return task.model_copy(update={"branch": own})

    async def _after_a_pull(self, task: TaskRow) -> TaskRow:
        """What is merged takes no more commits: the work goes on from the base, on a new branch.

        Decided once for each run, for the answer may change while it works.
        """
        decided = f"branch-decided:{task.id}"
        async with self.store.read() as conn:
            if await cursors.get(conn, decided) == str(task.fence):
                return task
        pull = await self.forges[task.forge].find_pull(task.repo, head=task.branch)
        merged = pull is not None and pull.merged
        fresh = f"{own_branch(task.id, task.title)}-{task.round}" if merged else task.branch
        url = "" if merged else task.pull_url
        async with self.store.begin() as tx:
            await cursors.put(tx, decided, str(task.fence))
            if merged:
                await tasks.update(tx, task.id, branch=fresh, pull_url=url)
                log.info("branch_merged", task=task.id, branch=task.branch, instead=fresh)
        return task.model_copy(update={"branch": fresh, "pull_url": url})

    async def _pushed(self, task: TaskRow) -> bool:
        async with self.store.read() as conn:
            return bool(await cursors.get(conn, pushed_key(task.id)))
