"""A forge for tests: pull requests in memory, repositories wherever the test put them; fails when told to."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fastapi import APIRouter

from integrations.errors import AuthError, IntegrationError, RejectedError
from integrations.forge import GitAccess, Pull, PullDraft
from integrations.reading import Check, Discussion


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeRepo:
    access: GitAccess
    default_branch: str = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    error: IntegrationError
    after: bool


@dataclass(slots=True, kw_only=True)
class FakeForge:
    """A forge in memory. `fail` makes the next call raise; `drafts` are the pull requests as they were asked for."""

    repos: dict[str, FakeRepo]
    name: str = "fake"
    revoked: bool = False
    """The credential is no longer accepted."""
    pulls: dict[str, list[Pull]] = field(default_factory=dict)
    """Oldest first, by repository."""
    drafts: list[PullDraft] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    """Repositories for which write access was given, in order."""
    problems: list[str] = field(default_factory=list)
    """What `check` answers."""
    calls: list[str] = field(default_factory=list)
    """Names of the methods called, in order."""
    closed: bool = False
    _faults: deque[_Fault] = field(default_factory=deque)

    def fail(self, error: IntegrationError, *, after: bool = False, times: int = 1) -> None:
        """Let the next calls of the port's methods raise; `after` they have taken effect."""
        self._faults.extend(_Fault(error=error, after=after) for _ in range(times))

    def close_pull(self, repo: str, number: int) -> None:
        """What a person does on the forge's page."""
        self.pulls[repo][number - 1] = self.pulls[repo][number - 1].model_copy(
            update={"open": False}
        )

    def merge_pull(self, repo: str, number: int) -> None:
        """The other thing that people do there."""
        self.close_pull(repo, number)
        merged = self.pulls[repo][number - 1].model_copy(update={"merged": True})
        self.pulls[repo][number - 1] = merged

    async def default_branch(self, repo: str) -> str:
        fault = self._called("default_branch")
        branch = self._repo(repo).default_branch
        _done(fault)
        return branch

    async def access(self, repo: str, *, write: bool) -> GitAccess:
        fault = self._called("access")
        access = self._repo(repo).access
        if write:
            self.writes.append(repo)
        _done(fault)
        return access

    async def find_pull(self, repo: str, *, head: str) -> Pull | None:
        fault = self._called("find_pull")
        self._repo(repo)
        found = self._find(repo, head)
        _done(fault)
        return found

    async def ended_pulls(self, repo: str, *, since: datetime) -> list[Pull]:
        fault = self._called("ended_pulls")
        self._repo(repo)
        found = [pull for pull in self.pulls.get(repo, []) if not pull.open]
        _done(fault)
        return found

    async def open_pull(self, draft: PullDraft) -> Pull:
        fault = self._called("open_pull")
        self._repo(draft.repo)
        found = self._find(draft.repo, draft.head)
        if found is None or not found.open:
            found = self._open(draft)
        _done(fault)
        return found

    def routes(self) -> APIRouter | None:
        return None

    async def check(self) -> list[str]:
        return list(self.problems)

    async def close(self) -> None:
        self.closed = True

    def _repo(self, repo: str) -> FakeRepo:
        if self.revoked:
            raise AuthError(self.name, "bad_credentials")
        if repo not in self.repos:
            raise RejectedError(self.name, "no_such_repository")
        return self.repos[repo]

    def _find(self, repo: str, head: str) -> Pull | None:
        found = [pull for pull in self.pulls.get(repo, []) if pull.head == head]
        return max(found, key=lambda pull: (pull.open, pull.number), default=None)

    def _open(self, draft: PullDraft) -> Pull:
        pulls = self.pulls.setdefault(draft.repo, [])
        number = len(pulls) + 1
        pull = Pull(
            number=number,
            url=f"http://forge.example/{draft.repo}/pulls/{number}",
            head=draft.head,
            base=draft.base,
            open=True,
        )
        pulls.append(pull)
        self.drafts.append(draft)
        return pull

    def _called(self, name: str) -> _Fault | None:
        self.calls.append(name)
        fault = self._faults.popleft() if self._faults else None
        if fault is not None and not fault.after:
            raise fault.error
        return fault


def _done(fault: _Fault | None) -> None:
    if fault is not None:
        raise fault.error


@dataclass
class FakeReading:
    """What can be read, by repository and number."""

    pulls: dict[tuple[str, int], Discussion] = field(default_factory=dict)
    issues: dict[tuple[str, int], Discussion] = field(default_factory=dict)
    patches: dict[tuple[str, int], str] = field(default_factory=dict)
    runs: dict[tuple[str, int], list[Check]] = field(default_factory=dict)

    async def pull(self, repo: str, number: int, *, comments: bool) -> Discussion:
        return _said(self.pulls, repo, number, comments=comments)

    async def diff(self, repo: str, number: int) -> str:
        _said(self.pulls, repo, number, comments=False)
        return self.patches.get((repo, number), "")

    async def checks(self, repo: str, number: int) -> list[Check]:
        _said(self.pulls, repo, number, comments=False)
        return self.runs.get((repo, number), [])

    async def issue(self, repo: str, number: int, *, comments: bool) -> Discussion:
        return _said(self.issues, repo, number, comments=comments)


def _said(
    there: Mapping[tuple[str, int], Discussion], repo: str, number: int, *, comments: bool
) -> Discussion:
    if (repo, number) not in there:
        raise RejectedError("fake", f"{repo} has no {number}")
    found = there[(repo, number)]
    return found if comments else found.model_copy(update={"comments": ()})
