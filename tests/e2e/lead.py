"""A team lead who sees Linear alone, and what the tests of Linear have in common."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.states import TERMINAL, TaskState
from bot.store.rows import TaskRow
from integrations.localforge.forge import LocalForge
from tests.support.git_server import run_git
from tests.support.installation import Installation, installation, until
from tests.support.linear.entities import Issue, Session
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET
from tests.support.linear.server import LinearApi, linear_api

REPO, OTHER_REPO = "acme/web", "acme/api"
POLICY = """\
version: 1
rules:
  - {who: ["linear:dana@acme.example"], where: ["linear:ENG", "linear:OPS"], repos: ["*"], agents: [script],
     may: [start, steer, stop]}
triggers: ["linear:label:errand"]
repos:
  acme/web: {forge: local, default_for: ["linear:ENG"], review_state: In Review}
  acme/api: {forge: local, default_for: ["linear:label:api"]}
limits: {wall_minutes: 5, memory: 512MB, cpus: 1, pids: 128, disk: 128MB}
"""
"""In OPS it is not clear which repository is meant."""
FILES = {
    "greet.py": "print('helo')\n",
    "check.sh": "grep -q hello greet.py\n",
    ".errand.yml": "verify: sh check.sh\nagent: script\n",
}
FIX = "The greeting is misspelt.\n```sh\nsed -i s/helo/hello/ greet.py\n```"


def slow(seconds: int) -> str:
    """The same, after a while."""
    loop = f"for n in $(seq 1 {seconds}); do echo step-$n; sleep 1; done"
    return f"Look for a while.\n```sh\n{loop}\nsed -i s/helo/hello/ greet.py\n```"


@dataclass(slots=True, kw_only=True)
class Lead:
    """A team lead in Linear, and everything she can see."""

    errand: Installation
    linear: LinearApi

    async def delegate(self, title: str, description: str, **more: object) -> tuple[Issue, Session]:
        issue = self.linear.world.issue(title, description=description)
        session = await self.linear.people.delegate(issue, **more)  # type: ignore[arg-type]
        return issue, session

    async def at_work(self, seconds: int = 60) -> tuple[Issue, Session]:
        """A ticket that is being worked on, for so many seconds."""
        issue, session = await self.delegate("Slow", slow(seconds))
        await self.sees(lambda: session.said("action")[1:], "the agent is at work")
        return issue, session

    async def sees(self, true: Callable[[], object], what: str, *, seconds: float = 60) -> None:
        try:
            await self.linear.until(lambda: bool(true()), seconds=seconds)
        except TimeoutError:
            states = [(s.status, s.said()) for s in self.linear.world.sessions]
            raise AssertionError(f"after {seconds:g} s still not: {what}; {states}") from None

    async def sees_end(self, session: Session, *, seconds: float = 60) -> None:
        await self.sees(
            lambda: session.status == "complete", "the session is complete", seconds=seconds
        )

    async def tasks(self, session: Session) -> list[TaskRow]:
        return [t for t in await self.errand.tasks() if t.item == session.issue.identifier]

    async def task(self, session: Session) -> TaskRow:
        [task] = await self.tasks(session)
        return task

    async def is_in(self, session: Session, *states: TaskState, seconds: float = 60) -> TaskRow:
        """Wait until its task is."""

        async def look() -> TaskRow | None:
            found = await self.tasks(session)
            return found[0] if found and found[0].state in states else None

        return await until(look, seconds=seconds, what=f"the task is {', '.join(states)}")

    async def ended(self, session: Session, *, seconds: float = 60) -> TaskRow:
        return await self.is_in(session, *TERMINAL, seconds=seconds)

    def file(self, branch: str, path: str, *, repo: str = REPO) -> bytes:
        return run_git(self.errand.data / "forge" / f"{repo}.git", "show", f"{branch}:{path}")

    @contextlib.contextmanager
    def forge_busy(self) -> Iterator[None]:
        """No pull request can be opened: what is done waits to be published."""
        with contextlib.closing(sqlite3.connect(self.errand.data / "forge" / "forge.db")) as forge:
            forge.isolation_level = None
            forge.execute("BEGIN EXCLUSIVE")
            yield
            forge.execute("ROLLBACK")


def settings(linear: LinearApi, **more: str) -> dict[str, str]:
    return {
        "ERRAND_LINEAR__CLIENT_ID": CLIENT_ID,
        "ERRAND_LINEAR__CLIENT_SECRET": CLIENT_SECRET,
        "ERRAND_LINEAR__MODE": "client_credentials",
        "ERRAND_LINEAR__API_URL": linear.url,
        **more,
    }


@contextlib.asynccontextmanager
async def a_lead(root: Path, *, webhooks: bool = True, polling: int = 0) -> AsyncIterator[Lead]:
    """Linear, and Errand beside it."""
    async with linear_api() as linear:
        told = settings(linear)
        if webhooks:
            told["ERRAND_LINEAR__WEBHOOK_SECRET"] = linear.webhooks.secret
        if polling:
            told["ERRAND_LINEAR__POLLING"] = str(polling)
        async with installation(root, policy=POLICY, settings=told) as errand:
            if webhooks:
                linear.webhooks.url = f"{errand.url}/linear/webhook"
            forge = LocalForge(errand.data / "forge", errand.url)
            for repo in (REPO, OTHER_REPO):
                await forge.create_repo(repo, FILES)
            await forge.close()
            await errand.up()
            yield Lead(errand=errand, linear=linear)
