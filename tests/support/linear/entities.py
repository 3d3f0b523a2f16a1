"""What Linear's world is made of: one class per type of the schema, fields in snake_case.

A method answers the field of its name; it gets the call that asks (`Call`) and the field's arguments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol

from typing_extensions import TypedDict, Unpack

from tests.support.linear.filters import matches
from tests.support.linear.paging import Connection, Page, connection

PRIORITIES = ("No priority", "Urgent", "High", "Medium", "Low")


class Stamp(TypedDict):
    id: str
    created_at: datetime
    updated_at: datetime


class Everything(Protocol):
    """The world, as far as entities look into it."""

    issues: list["Issue"]
    comments: list["Comment"]
    attachments: list["Attachment"]
    relations: list["Relation"]
    reactions: list["Reaction"]
    sessions: list["Session"]


class Call(Protocol):
    """A request that is being answered."""

    @property
    def world(self) -> Everything: ...
    @property
    def viewer(self) -> "User": ...


class Filtered(Page, total=False):
    filter: dict[str, Any] | None


@dataclass(slots=True, kw_only=True, eq=False)
class Entity:
    id: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True, kw_only=True, eq=False)
class Organization(Entity):
    name: str
    url_key: str


@dataclass(slots=True, kw_only=True, eq=False)
class User(Entity):
    name: str
    display_name: str
    email: str
    organization: Organization
    app: bool = False
    active: bool = True
    avatar_url: str | None = None

    @property
    def supports_agent_sessions(self) -> bool:
        return self.app

    @property
    def url(self) -> str:
        return f"https://linear.app/{self.organization.url_key}/profiles/{self.display_name}"

    def is_me(self, call: Call) -> bool:
        return call.viewer is self


@dataclass(slots=True, kw_only=True, eq=False)
class State(Entity):
    """`WorkflowState`; its type is triage, backlog, unstarted, started, completed or canceled."""

    name: str
    type: str
    position: float
    team: "Team" = field(repr=False)
    color: str = "#bec2c8"


@dataclass(slots=True, kw_only=True, eq=False)
class Team(Entity):
    key: str
    name: str
    state_list: list[State] = field(default_factory=list)
    parent_id: str | None = None

    @property
    def display_name(self) -> str:
        return self.name

    def states(self, call: Call, **page: Unpack[Filtered]) -> Connection[State]:
        return _filtered(self.state_list, call, page)

    def state(self, kind: str) -> State:
        """The first by position of a type, or the one of that name."""
        found = [s for s in self.state_list if kind in {s.type, s.name}]
        return min(found, key=lambda state: state.position)


@dataclass(slots=True, kw_only=True, eq=False)
class Project(Entity):
    name: str
    url: str = "https://linear.app/acme/project/project"


@dataclass(slots=True, kw_only=True, eq=False)
class Label(Entity):
    name: str
    team: Team | None = None
    color: str = "#eb5757"


@dataclass(slots=True, kw_only=True, eq=False)
class Issue(Entity):
    number: int
    title: str
    team: Team
    state: State
    description: str | None = None
    creator: User | None = None
    assignee: User | None = None
    delegate: User | None = None
    project: Project | None = None
    parent: "Issue | None" = None
    label_list: list[Label] = field(default_factory=list)
    priority: int = 0
    estimate: float | None = None
    due_date: date | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    canceled_at: datetime | None = None
    archived_at: datetime | None = None
    bot_actor: "BotActor | None" = None

    @property
    def identifier(self) -> str:
        return f"{self.team.key}-{self.number}"

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def url(self) -> str:
        return f"https://linear.app/acme/issue/{self.identifier}/{self.slug}"

    @property
    def branch_name(self) -> str:
        return f"{self.identifier.lower()}-{self.slug}"

    @property
    def priority_label(self) -> str:
        return PRIORITIES[self.priority]

    @property
    def label_ids(self) -> list[str]:
        return [label.id for label in self.label_list]

    @property
    def metadata(self) -> dict[str, Any]:
        """Of a search result."""
        return {}

    def labels(self, call: Call, **page: Unpack[Filtered]) -> Connection[Label]:
        return _filtered(self.label_list, call, page)

    def children(self, call: Call, **page: Unpack[Filtered]) -> Connection["Issue"]:
        return _filtered([i for i in call.world.issues if i.parent is self], call, page)

    def comments(self, call: Call, **page: Unpack[Page]) -> Connection["Comment"]:
        return connection([c for c in call.world.comments if c.issue is self], page)

    def attachments(self, call: Call, **page: Unpack[Page]) -> Connection["Attachment"]:
        return connection([a for a in call.world.attachments if a.issue is self], page)

    def relations(self, call: Call, **page: Unpack[Page]) -> Connection["Relation"]:
        return connection([r for r in call.world.relations if r.issue is self], page)

    def inverse_relations(self, call: Call, **page: Unpack[Page]) -> Connection["Relation"]:
        return connection([r for r in call.world.relations if r.related_issue is self], page)

    def agent_sessions(self, call: Call, **page: Unpack[Page]) -> Connection["Session"]:
        return connection([s for s in call.world.sessions if s.issue is self], page)

    def reactions(self, call: Call) -> list["Reaction"]:
        return [r for r in call.world.reactions if r.issue is self]


@dataclass(frozen=True, slots=True, kw_only=True)
class BotActor:
    name: str
    type: str
    id: str | None = None
    user_display_name: str | None = None
    avatar_url: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Comment(Entity):
    body: str
    issue: Issue
    user: User | None = None
    bot_actor: BotActor | None = None
    parent: "Comment | None" = None
    edited_at: datetime | None = None
    is_artificial_agent_session_root: bool = False

    @property
    def root(self) -> "Comment":
        return self.parent or self

    @property
    def issue_id(self) -> str:
        return self.issue.id

    @property
    def parent_id(self) -> str | None:
        return self.parent.id if self.parent else None

    @property
    def url(self) -> str:
        return f"{self.issue.url}#comment-{self.id[:8]}"

    def agent_session(self, call: Call) -> "Session | None":
        return next((s for s in call.world.sessions if s.comment is self), None)

    def children(self, call: Call, **page: Unpack[Page]) -> Connection["Comment"]:
        return connection([c for c in call.world.comments if c.parent is self], page)

    def reactions(self, call: Call) -> list["Reaction"]:
        return [r for r in call.world.reactions if r.comment is self]


@dataclass(slots=True, kw_only=True, eq=False)
class Attachment(Entity):
    issue: Issue
    url: str
    title: str
    subtitle: str | None = None
    creator: User | None = None
    source_type: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    group_by_source: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Relation(Entity):
    """`issue` blocks (or duplicates, …) `related_issue`."""

    type: str
    issue: Issue
    related_issue: Issue


@dataclass(slots=True, kw_only=True, eq=False)
class Reaction(Entity):
    emoji: str
    user: User
    comment: Comment | None = None
    issue: Issue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Of an activity: a body, or an action with its parameter and perhaps its result."""

    type: str
    body: str = ""
    action: str = ""
    parameter: str = ""
    result: str | None = None

    @property
    def typename(self) -> str:
        return f"AgentActivity{self.type.capitalize()}Content"


@dataclass(slots=True, kw_only=True, eq=False)
class Activity(Entity):
    agent_session: "Session" = field(repr=False)
    content: Content
    user: User
    ephemeral: bool = False
    signal: str | None = None
    signal_metadata: dict[str, Any] | None = None
    source_comment: Comment | None = None
    queued: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Session(Entity):
    app_user: User
    issue: Issue
    comment: Comment
    creator: User | None = None
    source_comment: Comment | None = None
    status: str = "pending"
    summary: str | None = None
    plan: Any = None
    external_link: str | None = None
    external_links: list[dict[str, str]] = field(default_factory=list)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    dismissed_at: datetime | None = None
    archived_at: datetime | None = None
    first_sign_at: datetime | None = None
    """When the agent first did what shows that it is there."""
    history: list[Activity] = field(default_factory=list, repr=False)
    """All there ever were, replaced ones too."""
    shown: list[Activity] = field(default_factory=list, repr=False)

    @property
    def slug_id(self) -> str:
        return self.id[:12]

    @property
    def url(self) -> str:
        return f"{self.issue.url}#agent-session-{self.slug_id}"

    @property
    def external_urls(self) -> list[dict[str, str]]:
        return self.external_links

    @property
    def urls(self) -> list[str]:
        return [link["url"] for link in self.external_links]

    def said(self, *kinds: str) -> list[str]:
        """The bodies that stayed, oldest first; of all types, or of these."""
        return [
            a.content.body or f"{a.content.action} {a.content.parameter}".strip()
            for a in self.shown
            if not kinds or a.content.type in kinds
        ]

    def activities(self, call: Call, **page: Unpack[Filtered]) -> Connection[Activity]:
        wanted = page.get("filter") or {}
        fitting = [a for a in self.shown if _activity_fits(a, wanted, call)]
        return connection(fitting, page)


def _activity_fits(activity: Activity, wanted: dict[str, Any], call: Call) -> bool:
    """Its `type` is that of its content."""
    rest = {name: condition for name, condition in wanted.items() if name != "type"}
    return matches(activity, rest, viewer=call.viewer) and matches(
        activity.content.type, wanted.get("type"), viewer=call.viewer
    )


def _filtered(entities: Sequence[Any], call: Call, page: Filtered) -> Connection[Any]:
    wanted = page.get("filter")
    return connection([e for e in entities if matches(e, wanted, viewer=call.viewer)], page)
