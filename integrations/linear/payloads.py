"""What Linear's webhooks carry, as far as it is read."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
"""A team's: `ENG`."""


class Read(BaseModel):
    """Only what is read: Linear adds fields and values without notice."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class Envelope(Read):
    """What every delivery has."""

    type: str
    action: str
    organization_id: Id
    app_user_id: Id | None = None

    @property
    def revokes(self) -> bool:
        """An admin has taken the app out of the workspace."""
        return (self.type, self.action) == ("OAuthApp", "revoked")


class Person(Read):
    id: Id
    name: str = ""
    email: str | None = None


class Team(Read):
    key: Key


class Issue(Read):
    id: Id
    identifier: str
    title: str
    description: str | None = None
    url: str = ""
    team: Team | None = None


class Comment(Read):
    id: Id
    body: str = ""
    user_id: str | None = None


class Session(Read):
    id: Id
    url: str | None = None
    app_user_id: Id
    issue: Issue | None = None
    comment: Comment | None = None
    creator: Person | None = None
    creator_id: Id | None = None


class Activity(Read):
    id: Id
    content: dict[str, JsonValue] = {}
    body: str | None = None
    """Where an older description has the text."""
    signal: str | None = None
    user: Person | None = None
    user_id: Id


class Rule(Read):
    body: str


class SessionEvent(Read):
    agent_session: Session
    agent_activity: Activity | None = None
    guidance: tuple[Rule, ...] | None = None
    """The nearest team's first."""
    previous_comments: tuple[Comment, ...] | None = None
    prompt_context: str | None = None


class Notification(Read):
    id: Id
    issue: Issue
    actor: Person | None = None
    actor_id: Id | None = None
    reaction_emoji: str | None = None


class NotificationEvent(Read):
    notification: Notification


class Named(Read):
    id: Id
    name: str = ""


class IssueData(Issue):
    labels: tuple[Named, ...] = ()
    state: Named | None = None
    updated_at: str


class Before(Read):
    """What a change has replaced; an attribute that is not there has stayed."""

    label_ids: tuple[str, ...] | None = None
    state_id: str | None = None


class IssueEvent(Read):
    action: str
    actor: Person | None = None
    data: IssueData
    updated_from: Before | None = None
