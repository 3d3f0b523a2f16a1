"""The publisher as it ships, between a real local forge and commits made by real git."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from bot.handin import HandIn, HandIns
from bot.publish import RETRY_SECONDS, Publisher
from bot.states import TaskState
from bot.store import events, runs
from integrations.errors import IntegrationError
from integrations.forge import Forge, GitAccess
from integrations.localforge.forge import LocalForge
from integrations.testing_forge import FakeForge, FakeRepo
from runner.protocol import CheckResult, EventRecord, Finished, RunKey
from tests.contract.flow.office import Office
from tests.support.git_server import commit, run_git
from tests.support.store import a_run

REPO = "acme/web"
FILES = {"README.md": "# web\n", "greet.py": "print('helo')\n"}
FIX = {"greet.py": "print('hello')\n"}


@dataclass(slots=True, kw_only=True)
class FickleForge(FakeForge):
    """A forge in memory that can fail at a certain method."""

    at: dict[str, tuple[IntegrationError, bool]] = field(default_factory=dict)

    def fail_at(self, name: str, error: IntegrationError, *, after: bool = False) -> None:
        """Let the next call of this method raise; `after` it has taken effect."""
        self.at[name] = (error, after)

    @override
    def _called(self, name: str) -> Any:
        if name in self.at:
            error, after = self.at.pop(name)
            self.fail(error, after=after)
        return FakeForge._called(self, name)  # not super(): a class with slots is made twice


async def publish_due(publisher: Publisher) -> None:
    """Attempt all that is due, one after the other."""
    while taken := await publisher.take():
        for task in taken:
            await publisher.attempt(task)


async def step_by_step(
    press: "Press", publisher: Publisher, times: int, *, apart: float = RETRY_SECONDS
) -> None:
    """So many rounds, with so many seconds after each."""
    for _ in range(times):
        await publish_due(publisher)
        press.office.clock.forward(apart)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@dataclass(slots=True, kw_only=True)
class Press:
    office: Office
    root: Path
    forge: LocalForge
    handed_in: HandIns
    forges: dict[str, Forge] = field(default_factory=dict)

    @classmethod
    async def of(cls, office: Office, root: Path) -> "Press":
        forge = LocalForge(root / "forge", "http://forge.example")
        await forge.create_repo(REPO, FILES)
        press = cls(office=office, root=root, forge=forge, handed_in=HandIns(root / "data"))
        press.forges["local"] = forge
        run_git(press.git_dir, "config", "core.logAllRefUpdates", "always")
        return press

    @property
    def git_dir(self) -> Path:
        return self.root / "forge" / f"{REPO}.git"

    def new_publisher(self) -> Publisher:
        """As after a start."""
        return Publisher(
            store=self.office.store,
            forges=self.forges,
            handed_in=self.handed_in,
            root=self.root / "publish",
            finished=self.office.finished,
            spoken=self.office.spoken,
            standing=self.office.standing,
            now=self.office.clock.now,
        )

    def fake(self) -> FickleForge:
        """A forge in memory in the place of the local one, with its repository."""
        access = GitAccess(url=f"file://{self.git_dir}")
        forge = FickleForge(name="local", repos={REPO: FakeRepo(access=access)})
        self.forges["local"] = forge
        return forge

    async def work(
        self,
        files: Mapping[str, str] | None = None,
        *,
        on: str = "main",
        text: str = "acme/web fix it",
    ) -> RunKey:
        """A first round whose run has handed in one commit on top of `on`."""
        await self.office.hear(text)
        return await self.work_again(files, on=on)

    async def work_again(self, files: Mapping[str, str] | None = None, *, on: str) -> RunKey:
        """The next run of the task, and what it handed in."""
        task = await self.office.task()
        run = RunKey(task=task.id, fence=task.fence + 1)
        head = await self.hand_in(run, files or FIX, branch=task.branch, on=on)
        now = self.office.clock.now()
        finished = Finished(
            outcome="done",
            changed=True,
            head=head,
            summary="The greeting was misspelt.",
            checks=(CheckResult(command="make test", passed=True),),
        )
        record = EventRecord(run=run, source="worker", seq=1000, at=now, event=finished)
        row = a_run(task.id, run.fence, round=task.round, started_at=now, queued_at=now)
        async with self.office.store.begin() as tx:
            await runs.insert(tx, row)
            await events.insert(tx, record, now=now)
        await self.office.put(TaskState.PUBLISHING, fence=run.fence)
        return run

    async def hand_in(
        self, run: RunKey, files: Mapping[str, str], *, branch: str, on: str, base: str = ""
    ) -> str:
        """Hand in one commit that is made outside of the forge; its SHA."""
        work = self.root / f"work-{run.fence}.git"
        run_git(work, "init", "--bare", "--quiet", "--template=")
        run_git(work, "fetch", "--quiet", str(self.git_dir), "+refs/heads/*:refs/heads/*")
        parent = run_git(work, "rev-parse", on).decode().strip()
        head = commit(work, files, branch=branch, parent=parent)
        bundle = work / "out.bundle"
        run_git(work, "bundle", "create", "--quiet", str(bundle), f"{parent}..refs/heads/{branch}")
        await self.handed_in.keep_bundle(
            run, HandIn(base=base or parent, head=head), pieces(bundle.read_bytes())
        )
        return head

    def someone_commits(self, branch: str, *, on: str) -> str:
        """A person's commit on the forge."""
        return commit(self.git_dir, {"theirs.txt": "by hand\n"}, branch=branch, parent=on)

    def at(self, branch: str) -> str:
        """The SHA that the branch has on the forge; empty if there is none."""
        name = f"refs/heads/{branch}"
        return (
            run_git(self.git_dir, "for-each-ref", "--format=%(objectname)", name).decode().strip()
        )

    def pushes(self, branch: str) -> int:
        """How often the branch was pushed to."""
        log = self.git_dir / "logs" / "refs" / "heads" / branch
        return len(log.read_text().splitlines()) if log.exists() else 0

    async def pulls(self) -> int:
        task = await self.office.task()
        found = await self.forge.find_pull(REPO, head=task.branch)
        return found.number if found else 0
