"""A policy as its file says it, and what is asked of it and answered."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from policies.connection_model import Connection, GrantedConnection
from policies.connections import RESERVED, is_endpoint_name
from policies.hosts import PROFILES, EgressRule
from policies.names import (
    AgentOrAll,
    Command,
    Count,
    Glob,
    Keyword,
    Name,
    Person,
    Place,
    RepoName,
    RepoOrAll,
    Size,
    StateName,
    Who,
)
from policies.pricelist import ModelPrice

Action = Literal["start", "steer", "stop", "approve", "settings"]
Permission = Literal["start", "steer", "stop", "approve", "settings"]
Loc = tuple[str | int, ...]

_MIB = 1024**2
_GIB = 1024**3
_TIB = 1024**4


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Rule(_Value):
    """Allows what all five lists name together. What no rule allows is refused."""

    who: tuple[Who, ...] = Field(min_length=1)
    """Groups of `people`, persons as `channel:id`, or `*`."""
    where: tuple[Place, ...] = Field(min_length=1)
    """Places as `channel:id`, `channel:*`, or `*`."""
    repos: tuple[RepoOrAll, ...] = Field(min_length=1)
    """Names from `repos`, or `*` for all of them."""
    agents: tuple[AgentOrAll, ...] = Field(min_length=1)
    may: tuple[Permission, ...] = Field(min_length=1)


class RepoEgress(_Value):
    profiles: tuple[str, ...] = ()
    hosts: tuple[EgressRule, ...] = ()


class PublishPolicy(_Value):
    protected: tuple[Glob, ...] = ()
    """Path patterns that no task may change, besides those that are always protected."""
    max_files: Count = Field(default=200, ge=1, le=100_000)
    max_bytes: Size = Field(default=5_000_000, ge=1, le=2 * _GIB)
    """Sum of the new contents of all changed files."""
    max_commits: Count = Field(default=100, ge=1, le=10_000)
    draft: bool = Field(default=False, strict=True)


class SandboxPolicy(_Value):
    runtime: Literal["runc", "runsc"] = "runc"
    """`runsc` is gVisor; a worker that has none refuses the task."""


class CommandPolicy(_Value):
    deny: tuple[Command, ...] = ()
    """Names of programs that are masked, wherever the image has them."""
    broker: tuple[Literal["gh"], ...] = ()
    """Programs of which `serve` runs the reading half, for the repository's own."""

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        if both := sorted({*self.deny} & {*self.broker}):
            raise PydanticCustomError(
                "both", "{text}", {"text": f"{both[0]} is denied and brokered"}
            )
        return self


class RepoPolicy(_Value):
    forge: Literal["local", "github"]
    default_for: tuple[Place, ...] = ()
    """Places, and labels, projects or states of tickets (`linear:label:backend`), where this repository is meant."""
    keywords: tuple[Keyword, ...] = ()
    """Words of a request by which this repository is meant, wherever it was asked for."""
    follow: tuple[Place, ...] = ()
    """Places where its tasks are shown, besides where they were asked for: one place each, like `slack:C0WEB`."""
    review_state: StateName = ""
    """Where a ticket goes when its pull request is open, by the name of the state."""
    egress: RepoEgress = RepoEgress()
    connections: tuple[Name, ...] = ()
    reads: tuple[RepoName, ...] = ()
    """Other repositories of this policy that its runs may fetch."""
    publish: PublishPolicy = PublishPolicy()
    sandbox: SandboxPolicy = SandboxPolicy()
    commands: CommandPolicy = CommandPolicy()


class Limits(_Value):
    wall_minutes: Count = Field(default=60, ge=1, le=24 * 60)
    cost_usd: float = Field(default=5.0, gt=0, le=10_000, strict=True, allow_inf_nan=False)
    turns: Count = Field(default=20, ge=1, le=1000)
    """Agent turns in one run, repairs and steering included."""
    tasks_per_person: Count = Field(default=3, ge=1, le=10_000)
    tasks_per_repo: Count = Field(default=5, ge=1, le=10_000)
    tasks: Count = Field(default=20, ge=1, le=10_000)
    memory: Size = Field(default=4 * _GIB, ge=128 * _MIB, le=16 * _TIB)
    cpus: float = Field(default=2.0, ge=0.1, le=1024, strict=True, allow_inf_nan=False)
    pids: Count = Field(default=512, ge=32, le=65_536)
    disk: Size = Field(default=10 * _GIB, ge=64 * _MIB, le=16 * _TIB)
    approval_days: Count = Field(default=30, ge=1, le=3650)
    """How long a host stays open that somebody opened to a whole repository."""


class Policy(_Value):
    """Data, loaded once. `hash` tells one version from another."""

    version: Literal[1]
    people: dict[Name, tuple[Person, ...]] = {}
    rules: tuple[Rule, ...] = ()
    triggers: tuple[Place, ...] = ()
    """Labels and states of tickets that are a request when somebody sets them: `linear:label:errand`. Whoever sets
    them must be allowed to start."""
    repos: dict[RepoName, RepoPolicy] = {}
    connections: dict[Name, Connection] = {}
    prices: tuple[ModelPrice, ...] = ()
    """Of models, before those that come with Errand."""
    limits: Limits = Limits()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON; comments and spelling of the file do not count."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @model_validator(mode="after")
    def _refer_to_what_is_there(self) -> Self:
        problems = [*self._rule_problems(), *self._repo_problems(), *self._default_problems()]
        problems += [*self._follow_problems(), *self._read_problems()]
        if problems := [*problems, *self._connection_problems()]:
            raise PydanticCustomError(
                "dangling", "{text}", {"problems": problems, **_said(problems)}
            )
        return self

    def _rule_problems(self) -> Iterator[tuple[Loc, str]]:
        for i, rule in enumerate(self.rules):
            for j, who in enumerate(rule.who):
                if who != "*" and ":" not in who and who not in self.people:
                    yield ("rules", i, "who", j), f"there is no group {who} under `people`"
            for j, repo in enumerate(rule.repos):
                if repo not in {"*", *self.repos}:
                    yield ("rules", i, "repos", j), f"{repo} is not described under `repos`"

    def _repo_problems(self) -> Iterator[tuple[Loc, str]]:
        for name, repo in self.repos.items():
            at = ("repos", name)
            for i, connection in enumerate(repo.connections):
                if connection not in self.connections:
                    yield (*at, "connections", i), f"there is no connection {connection}"
            for i, profile in enumerate(repo.egress.profiles):
                if profile not in PROFILES:
                    yield (*at, "egress", "profiles", i), _unknown_profile(profile)
            modes: dict[str, str] = {}
            for i, rule in enumerate(repo.egress.hosts):
                if modes.setdefault(rule.host, rule.mode) != rule.mode:
                    yield (*at, "egress", "hosts", i, "mode"), f"{rule.host} has another mode above"

    def _read_problems(self) -> Iterator[tuple[Loc, str]]:
        for name, repo in self.repos.items():
            for i, other in enumerate(repo.reads):
                if other not in self.repos or other == name:
                    yield ("repos", name, "reads", i), f"{other} is not another one under `repos`"

    def _connection_problems(self) -> Iterator[tuple[Loc, str]]:
        for name, connection in self.connections.items():
            if connection.kind != "llm" and name in RESERVED:
                yield ("connections", name), f"{name}.internal is kept for Errand; use another name"
            elif not is_endpoint_name(connection.kind, name):
                yield ("connections", name), f"{name} cannot be part of a host name"

    def _follow_problems(self) -> Iterator[tuple[Loc, str]]:
        for name, repo in self.repos.items():
            for i, place in enumerate(repo.follow):
                if place.endswith("*"):
                    yield ("repos", name, "follow", i), "name one place, like slack:C0WEB"
        for i, trigger in enumerate(self.triggers):
            if trigger.endswith("*"):
                yield ("triggers", i), "name one label or state, like linear:label:errand"

    def _default_problems(self) -> Iterator[tuple[Loc, str]]:
        """Two repositories for one place, or two names that a forge takes for one."""
        names: dict[str, str] = {}
        places: dict[str, str] = {}
        for name, repo in self.repos.items():
            if (other := names.setdefault(name.lower(), name)) != name:
                yield ("repos", name), f"differs from {other} by capitals only"
            for i, place in enumerate(repo.default_for):
                if (other := places.setdefault(place, name)) != name:
                    at = ("repos", name, "default_for", i)
                    yield at, f"{other} is the default for {place} already"


def _unknown_profile(name: str) -> str:
    return f"there is no profile {name!r}: known are {', '.join(sorted(PROFILES))}; list `hosts`"


def _said(problems: list[tuple[Loc, str]]) -> dict[str, Any]:
    return {"text": "; ".join(f"{'.'.join(map(str, loc))}: {text}" for loc, text in problems)}


class Ask(_Value):
    """What a person wants to do, and where they said so."""

    person: str
    """As the channel gives them: `slack:U0DANA`."""
    where: str
    """As the channel gives it: `slack:C0WEB`."""
    action: Action
    repo: str | None = None
    agent: str | None = None
    model: str | None = None
    text: str = ""
    """What is asked for, in which words may stand for a repository."""
    topics: tuple[str, ...] = ()
    """Further names of where it was said, the most specific first: `linear:label:backend`."""
    suggested: str | None = None
    """A repository that the channel is sure is meant."""
    chosen: str | None = None
    """The repository that people have set for this place, by `settings`."""
    apart: Literal["", "unknown", "guest", "outsider", "bot"] = ""
    """What sets this person apart from the members of the place: then `*` does not mean them."""
    shared: bool = False
    """Others than this organization read there: then neither `*` nor `channel:*` means the place."""
    task_requester: str | None = None
    """Who asked for the task that this is about, if it is about one."""


class GrantLimits(_Value):
    wall_minutes: int
    cost_usd: float
    turns: int
    memory_mib: int
    cpus: float
    pids: int
    disk_mib: int
    tasks_per_person: int = 3
    tasks_per_repo: int = 5


class GrantPublish(_Value):
    protected: tuple[str, ...]
    max_files: int
    max_bytes: int
    max_commits: int
    draft: bool


class RepoRead(_Value):
    """A repository that may be fetched, and no more."""

    forge: str
    repo: str
    """owner/name"""


class Grant(_Value):
    """What a decision allows. `agents` may be `("*",)`: every agent of the catalogue."""

    action: Action
    repo: str
    repo_reason: str
    """Part of a sentence: `the default of slack:C0WEB`."""
    forge: Literal["local", "github"]
    agents: tuple[str, ...]
    agent: str | None
    """The agent that was asked for."""
    model: str = ""
    """The model that was asked for; empty leaves it to the agent."""
    rule: str
    """`rules[0]`."""
    egress: tuple[EgressRule, ...]
    profiles: tuple[str, ...] = ()
    """Named lists of hosts; what is in them, the worker says."""
    connections: tuple[GrantedConnection, ...] = ()
    reads: tuple[RepoRead, ...] = ()
    limits: GrantLimits
    publish: GrantPublish
    runtime: Literal["runc", "runsc"] = "runc"
    denied_commands: tuple[str, ...] = ()
    brokered_commands: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    review_state: str = ""


class Refusal(_Value):
    """Two sentences for people: why, and who can change it."""

    reason: str
    rule: str
    """The rule that came nearest, as `rules[0]`; or the part of the policy that decided."""
    who_can_change: str


class Choice(_Value):
    """More than one repository may be meant."""

    text: str
    options: tuple[str, ...]
    likely: int = 0
    """So many of the options are likelier than the others, and come first."""
