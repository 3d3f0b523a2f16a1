"""The state: one workspace with its people, teams and issues, and our app in it."""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from tests.support.linear import payloads
from tests.support.linear.entities import (
    Attachment,
    BotActor,
    Comment,
    Entity,
    Issue,
    Label,
    Organization,
    Project,
    Reaction,
    Relation,
    Session,
    Stamp,
    State,
    Team,
    User,
)
from tests.support.linear.errors import conflict, invalid, not_found

LINEAR: Final = BotActor(name="Linear", type="workflow")
STATES: Final = (
    ("Triage", "triage"),
    ("Backlog", "backlog"),
    ("Todo", "unstarted"),
    ("In Progress", "started"),
    ("In Review", "started"),
    ("Done", "completed"),
    ("Canceled", "canceled"),
)
_UUID4: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
EntityT = TypeVar("EntityT", bound=Entity)


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass(slots=True)
class World:
    """What is where. Changes that Linear would tell about are put into `news`, as webhook bodies."""

    issues: list[Issue] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    projects: list[Project] = field(default_factory=list)
    guidance: list[tuple[str, Team | None]] = field(default_factory=list)
    """What agents are told in the workspace, or in a team."""
    suggestions: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    """By issue id: `owner/repo` and how sure Linear is."""
    github_integration: bool = True
    """Whether attachmentLinkGitHubPR works."""
    tells_own_sessions: bool = False
    """Whether a session that the agent itself began is told to it by webhook too."""
    oauth_client_id: str = field(default_factory=new_id)
    webhook_id: str = field(default_factory=new_id)
    news: list[payloads.Json] = field(default_factory=list)
    _last: datetime = _EPOCH

    organization: Organization = field(init=False)
    dana: User = field(init=False)
    lee: User = field(init=False)
    app: User = field(init=False)
    rival: User = field(init=False)
    """Another agent."""
    users: list[User] = field(init=False)
    team: Team = field(init=False)
    """Engineering, ENG"""
    other_team: Team = field(init=False)
    """Operations, OPS"""
    teams: list[Team] = field(init=False)
    app_teams: list[Team] = field(init=False)
    """What the app may see."""

    def __post_init__(self) -> None:
        self.organization = Organization(**self.stamp(), name="Acme", url_key="acme")
        self.dana, self.lee = self.person("Dana"), self.person("Lee")
        self.app, self.rival = self.person("Errand", app=True), self.person("Rival", app=True)
        self.users = [self.dana, self.lee, self.app, self.rival]
        self.team = self._new_team("ENG", "Engineering")
        self.other_team = self._new_team("OPS", "Operations")
        self.teams = [self.team, self.other_team]
        self.app_teams = [*self.teams]

    # --- making things

    def now(self) -> datetime:
        """Real time, but never the same twice."""
        self._last = max(datetime.now(UTC), self._last + timedelta(milliseconds=1))
        return self._last

    def stamp(self, given: str | None = None, *, among: Iterable[Entity] = ()) -> Stamp:
        """Identity and times of a new entity; its id may be the client's own, once."""
        if given is not None:
            if not _UUID4.fullmatch(given):
                raise invalid("id must be a UUID")
            if (same := next((e for e in among if e.id == given), None)) is not None:
                raise conflict(type(same).__name__.replace("Activity", "AgentActivity"), given)
        now = self.now()
        return Stamp(id=given or new_id(), created_at=now, updated_at=now)

    def person(self, name: str, *, app: bool = False) -> User:
        handle = name.lower()
        email = f"{handle}@{'oauthapp.linear.app' if app else 'acme.example'}"
        return User(
            **self.stamp(), name=name, display_name=handle, email=email, app=app,
            organization=self.organization,
        )  # fmt: skip

    def issue(  # noqa: PLR0913 - what an issue has
        self,
        title: str,
        *,
        description: str | None = None,
        team: Team | None = None,
        state: str = "unstarted",
        labels: Sequence[str] = (),
        project: str | None = None,
        parent: Issue | None = None,
        creator: User | None = None,
        issue_id: str | None = None,
    ) -> Issue:
        """A new issue that nobody is told about."""
        team = team or self.team
        found = Issue(
            **self.stamp(issue_id, among=self.issues),
            number=1 + max((i.number for i in self.issues if i.team is team), default=0),
            title=title, description=description, team=team, state=team.state(state),
            label_list=[self.label(name) for name in labels], creator=creator or self.dana,
            project=self._project(project) if project else None, parent=parent,
        )  # fmt: skip
        self.issues.append(found)
        return found

    def label(self, name: str) -> Label:
        if (found := next((x for x in self.labels if x.name == name), None)) is not None:
            return found
        self.labels.append(Label(**self.stamp(), name=name))
        return self.labels[-1]

    def comment(
        self,
        issue: Issue,
        body: str,
        *,
        user: User | None,
        parent: Comment | None = None,
        comment_id: str | None = None,
    ) -> Comment:
        """A comment that nobody is told about; Linear's own without a user."""
        made = Comment(
            **self.stamp(comment_id, among=self.comments),
            body=body,
            issue=issue,
            user=user,
            bot_actor=None if user else LINEAR,
            parent=parent.root if parent else None,
        )
        self.comments.append(made)
        return made

    def _project(self, name: str) -> Project:
        if (found := next((x for x in self.projects if x.name == name), None)) is not None:
            return found
        self.projects.append(Project(**self.stamp(), name=name))
        return self.projects[-1]

    def _new_team(self, key: str, name: str) -> Team:
        team = Team(**self.stamp(), key=key, name=name)
        team.state_list = [
            State(**self.stamp(), name=state, type=kind, position=float(at), team=team)
            for at, (state, kind) in enumerate(STATES)
        ]
        return team

    # --- finding things

    def sees(self, viewer: User, team: Team) -> bool:
        return not viewer.app or team in self.app_teams

    def find_issue(self, key: str, *, viewer: User) -> Issue:
        """By id or identifier."""
        for issue in self.issues:
            if key in {issue.id, issue.identifier} and self.sees(viewer, issue.team):
                return issue
        raise not_found("Issue")

    def find_session(self, session_id: str, *, viewer: User) -> Session:
        session = find(self.sessions, session_id, "AgentSession")
        if not self.sees(viewer, session.issue.team):
            raise not_found("AgentSession")
        return session

    def find_comment(self, comment_id: str, *, viewer: User) -> Comment:
        comment = find(self.comments, comment_id, "Comment")
        if not self.sees(viewer, comment.issue.team):
            raise not_found("Comment")
        return comment

    def blockers(self, issue: Issue) -> list[Issue]:
        return [r.issue for r in self.relations if r.related_issue is issue and r.type == "blocks"]

    # --- changing an issue, which is told

    def change(self, issue: Issue, changes: Mapping[str, Any], *, by: User | None) -> None:
        """Set attributes, and tell the app what Linear tells it."""
        before = {name: getattr(issue, name) for name in changes}
        changed = {name: value for name, value in changes.items() if value != before[name]}
        if not changed:
            return
        told = {"updated_at": issue.updated_at, **{name: before[name] for name in changed}}
        for name, value in changed.items():
            setattr(issue, name, value)
        issue.updated_at = self.now()
        if "state" in changed:
            self._date(issue)
        self.news.append(payloads.issue_updated(self, issue, before=told, by=by))
        if by is not self.app:
            self._notify(issue, changed, delegate_before=before.get("delegate"), by=by)

    def _date(self, issue: Issue) -> None:
        kind = issue.state.type
        issue.started_at = issue.started_at or (issue.updated_at if kind == "started" else None)
        issue.completed_at = issue.updated_at if kind == "completed" else None
        issue.canceled_at = issue.updated_at if kind == "canceled" else None

    def _notify(
        self, issue: Issue, changed: Mapping[str, Any], *, delegate_before: User | None,
        by: User | None,
    ) -> None:  # fmt: skip
        """What arrives in the app's inbox."""
        kinds = []
        if "delegate" in changed and issue.delegate is self.app:
            kinds.append("issueAssignedToYou")
        if "delegate" in changed and delegate_before is self.app:
            kinds.append("issueUnassignedFromYou")
        if "state" in changed and issue.delegate is self.app:
            kinds.append("issueStatusChanged")
        for kind in kinds:
            self.news.append(payloads.notification(self, kind, issue, by=by))


def find(entities: Iterable[EntityT], entity_id: str | None, kind: str) -> EntityT:
    for entity in entities:
        if entity.id == entity_id:
            return entity
    raise not_found(kind)
