"""A policy as its file says it, and what is asked of it and answered."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from policies.connections import DEFAULT_HEADER, is_endpoint_name, parse_upstream
from policies.names import (
    AgentOrAll,
    Count,
    Glob,
    Header,
    Host,
    Name,
    Person,
    Place,
    RepoName,
    RepoOrAll,
    SecretName,
    Size,
    StateName,
    Upstream,
    Who,
)

Action = Literal["start", "steer", "stop", "settings"]
Permission = Literal["start", "steer", "stop", "approve", "settings"]
Loc = tuple[str | int, ...]

PROFILES: dict[str, tuple[str, ...]] = {"none": ()}
"""Named lists of hosts that a repository's `egress` may refer to."""

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


class HostRule(_Value):
    host: Host
    methods: tuple[str, ...] | None = None
    """Kept for later: a list of methods is refused as long as the gateway cannot hold to it."""
    private: bool = Field(default=False, strict=True)
    """The name may resolve to a private address."""


class RepoEgress(_Value):
    profiles: tuple[str, ...] = ()
    hosts: tuple[HostRule, ...] = ()


class PublishPolicy(_Value):
    protected: tuple[Glob, ...] = ()
    """Path patterns that no task may change, besides those that are always protected."""
    max_files: Count = Field(default=200, ge=1, le=100_000)
    max_bytes: Size = Field(default=5_000_000, ge=1, le=2 * _GIB)
    """Sum of the new contents of all changed files."""
    max_commits: Count = Field(default=100, ge=1, le=10_000)
    draft: bool = Field(default=False, strict=True)


class RepoPolicy(_Value):
    forge: Literal["local", "github"]
    default_for: tuple[Place, ...] = ()
    """Places, and labels, projects or states of tickets (`linear:label:backend`), where this repository is meant."""
    follow: tuple[Place, ...] = ()
    """Places where its tasks are shown, besides where they were asked for: one place each, like `slack:C0WEB`."""
    review_state: StateName = ""
    """Where a ticket goes when its pull request is open, by the name of the state."""
    egress: RepoEgress = RepoEgress()
    connections: tuple[Name, ...] = ()
    publish: PublishPolicy = PublishPolicy()


class LlmConnection(_Value):
    """A server with Anthropic's Messages API. The agent calls `http://NAME.llm.internal`; the gateway adds the secret."""

    kind: Literal["llm"]
    private: bool = Field(default=False, strict=True)
    """The upstream may be in a private network: then it may be an IPv4 address, and need not speak TLS."""
    upstream: str
    """What stands before `/v1/messages`: a scheme and a host, with a port and a path if needed."""
    secret: SecretName
    """Workers have the value in `ERRAND_SECRETS__<this name>`."""
    header: Header = DEFAULT_HEADER
    """The request header that carries the secret."""
    models: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Names or patterns with `*`."""

    @field_validator("upstream")
    @classmethod
    def _can_be_reached(cls, text: str, info: ValidationInfo) -> str:
        if parse_upstream(text, private=bool(info.data.get("private"))) is None:
            raise ValueError(
                "write https://host, with a port and a path if needed"
                " (http:// and addresses only with `private: true`)"
            )
        return text


class TcpConnection(_Value):
    kind: Literal["tcp"]
    upstream: Upstream
    private: bool = Field(default=False, strict=True)


Connection = Annotated[LlmConnection | TcpConnection, Field(discriminator="kind")]


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
    limits: Limits = Limits()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON; comments and spelling of the file do not count."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @model_validator(mode="after")
    def _refer_to_what_is_there(self) -> Self:
        problems = [*self._rule_problems(), *self._repo_problems(), *self._default_problems()]
        problems += self._follow_problems()
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
            for i, rule in enumerate(repo.egress.hosts):
                if rule.methods is not None:
                    yield (*at, "egress", "hosts", i, "methods"), _NO_METHODS

    def _connection_problems(self) -> Iterator[tuple[Loc, str]]:
        for name, connection in self.connections.items():
            if isinstance(connection, LlmConnection) and not is_endpoint_name(name):
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


_NO_METHODS = "the gateway cannot hold a host to methods yet: leave `methods` out, or the host"


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


class GrantPublish(_Value):
    protected: tuple[str, ...]
    max_files: int
    max_bytes: int
    max_commits: int
    draft: bool


class GrantConnection(_Value):
    """A model connection of the repository, by the name of its secret."""

    name: str
    upstream: str
    private: bool
    secret: str
    header: str
    models: tuple[str, ...]


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
    rule: str
    """`rules[0]`."""
    egress: tuple[str, ...]
    private_hosts: tuple[str, ...]
    connections: tuple[GrantConnection, ...] = ()
    limits: GrantLimits
    publish: GrantPublish
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
