"""What Linear's API answers, as far as it is asked; states and kinds are texts, since new ones come."""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import structlog
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticOmit

from integrations.invalid import invalid_fields
from integrations.linear.payloads import Issue as IssueHead
from integrations.linear.payloads import Person, Read, Team

log = structlog.get_logger()
T = TypeVar("T")


def _left_out(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        tell_unreadable(error)
        raise PydanticOmit from None


def tell_unreadable(error: ValidationError) -> None:
    """One of what was asked for is left out."""
    log.warning("linear_answer_unreadable", without_a_valid=invalid_fields(error, most=3))


OrLeftOut = WrapValidator(_left_out)
"""One of a list that is not as it should be does not spoil the others."""


class PageInfo(Read):
    has_next_page: bool = False
    end_cursor: str | None = None


class Nodes(Read, Generic[T]):
    nodes: tuple[T, ...] = ()


class Page(Nodes[T], Generic[T]):
    page_info: PageInfo = PageInfo()


class Url(Read):
    url: str


class Actor(Read):
    """A user; `app` where it was asked."""

    id: str
    name: str = ""
    email: str | None = None
    app: bool = False

    @property
    def person(self) -> Person:
        return Person(id=self.id, name=self.name, email=self.email)


class Named(Read):
    name: str = ""


class State(Read):
    id: str = ""
    name: str = ""
    type: str
    position: float = 0

    @property
    def is_open(self) -> bool:
        return self.type not in {"completed", "canceled"}


class Comment(Read):
    id: str
    body: str = ""
    created_at: datetime
    user: Actor | None = None
    bot_actor: Named | None = None

    @property
    def by(self) -> str:
        author = self.user or self.bot_actor
        return (author and author.name) or "Linear"


class Thread(Comment):
    children: Nodes[Comment] = Nodes()


class ItemName(Read):
    identifier: str
    title: str = ""
    state: State | None = None


class Relation(Read):
    type: str
    issue: ItemName


class Attachment(Read):
    title: str = ""
    url: str = ""


class Root(Read):
    """The comment that a session hangs on."""

    id: str
    body: str = ""
    user: Actor | None = None


class SessionHead(Read):
    id: str
    status: str = ""
    created_at: datetime
    dismissed_at: datetime | None = None
    app_user: Actor
    external_links: tuple[Url, ...] = ()
    comment: Root | None = None
    creator: Actor | None = None

    @property
    def is_open(self) -> bool:
        return self.status not in {"complete", "error"} and self.dismissed_at is None


class Issue(Read):
    id: str
    identifier: str
    title: str
    description: str | None = None
    url: str = ""
    branch_name: str = ""
    priority: float = 0
    team: Team
    state: State
    project: Named | None = None
    creator: Actor | None = None
    delegate: Actor | None = None
    labels: Nodes[Named] = Nodes()
    parent: ItemName | None = None
    children: Nodes[ItemName] = Nodes()
    comments: Nodes[Comment] = Nodes()
    inverse_relations: Nodes[Relation] = Nodes()
    attachments: Nodes[Attachment] = Nodes()
    agent_sessions: Nodes[SessionHead] = Nodes()


class Request(Read):
    """A session with all that a request has."""

    id: str
    url: str | None = None
    created_at: datetime
    creator: Actor | None = None
    app_user: Actor
    external_links: tuple[Url, ...] = ()
    source_comment: Comment | None = None
    comment: Thread | None = None
    issue: Issue | None = None


class SessionRequest(Read):
    agent_session: Request


class IssueRequest(Read):
    issue: Issue


class IssueSessionsOf(Read):
    id: str
    identifier: str
    team: Team
    state: State
    delegate: Actor | None = None
    agent_sessions: Nodes[SessionHead] = Nodes()


class IssueSessions(Read):
    issue: IssueSessionsOf


class TeamStates(Read):
    states: Nodes[State] = Nodes()


class IssueStates(Read):
    id: str
    state: State
    delegate: Actor | None = None
    team: TeamStates


class SessionStates(Read):
    """A session's ticket, and where it can go."""

    creator: Actor | None = None
    external_links: tuple[Url, ...] = ()
    issue: IssueStates | None = None


class SessionMoves(Read):
    agent_session: SessionStates


class Links(Read):
    external_links: tuple[Url, ...] = ()


class SessionLinks(Read):
    agent_session: Links


class Kind(Read):
    typename: str = Field(alias="__typename")


class Said(Read):
    id: str
    created_at: datetime
    content: Kind


class LastWords(Read):
    newest: Nodes[Said] = Nodes()
    oldest: Nodes[Said] = Nodes()


class LastWord(Read):
    agent_session: LastWords


class Identified(Read):
    id: str


class Activities(Read):
    activities: Nodes[Identified] = Nodes()


class ActivityOf(Read):
    agent_session: Activities


class Made(Read):
    agent_session: Identified


class SessionMade(Read):
    agent_session_create_on_issue: Made


class TeamName(Read):
    id: str
    key: str


class Teams(Read):
    teams: Nodes[TeamName]


class Guess(Read):
    repository_full_name: str
    confidence: float


class Guesses(Read):
    suggestions: tuple[Guess, ...] = ()


class Suggestions(Read):
    issue_repository_suggestions: Guesses


class Blocked(Read):
    inverse_relations: Nodes[Relation] = Nodes()

    @property
    def waits_for(self) -> tuple[str, ...]:
        return open_blockers(self.inverse_relations.nodes)


class BlockedIssue(Read):
    issue: Blocked | None = None


class BlockedSession(Read):
    agent_session: BlockedIssue


class UserName(Read):
    display_name: str = ""
    name: str = ""


class User(Read):
    user: UserName


class Users(Read):
    users: Nodes[UserName]


class Organization(Read):
    id: str
    name: str = ""
    url_key: str = ""


class Viewer(Read):
    id: str
    display_name: str
    app: bool


class Who(Read):
    viewer: Viewer
    organization: Organization
    teams: Nodes[Team] = Nodes()


class Done(Read):
    """A change that was made; whatever else it says."""


class PromptContent(Read):
    body: str = ""


class Prompt(Read):
    id: str
    created_at: datetime
    signal: str | None = None
    user: Actor
    content: PromptContent


class NewSession(Read):
    id: str
    url: str | None = None
    created_at: datetime
    updated_at: datetime
    app_user: Identified
    creator: Actor | None = None
    issue: IssueHead | None = None
    comment: Root | None = None
    activities: Nodes[Prompt] = Nodes()


class NewSessions(Read):
    agent_sessions: Page[Annotated[NewSession, OrLeftOut]]


class ChangedIssue(IssueHead):
    updated_at: datetime
    state: State
    delegate: Identified | None = None
    agent_sessions: Nodes[SessionHead] = Nodes()


class ChangedIssues(Read):
    issues: Page[Annotated[ChangedIssue, OrLeftOut]]


def open_blockers(relations: tuple[Relation, ...]) -> tuple[str, ...]:
    """Those of a ticket's incoming relations that must be done before it, and are not."""
    return tuple(
        relation.issue.identifier
        for relation in relations
        if relation.type == "blocks"
        and (relation.issue.state is None or relation.issue.state.is_open)
    )
