"""Linear's deliveries become Inbounds: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from pydantic import ValidationError

from integrations.channel import Conversation, Inbound
from integrations.errors import MalformedPayloadError
from integrations.invalid import invalid_fields
from integrations.linear.markup import is_web, limited, mentions, without_mention
from integrations.linear.payloads import (
    Activity,
    Envelope,
    Issue,
    IssueEvent,
    Notification,
    NotificationEvent,
    Person,
    Read,
    Session,
    SessionEvent,
)
from integrations.wording import clean, one_line

NAME: Final = "linear"
AUTOMATION: Final = "linear:automation"
"""Who asks where no person does."""
ISSUE_PREFIX: Final = "issue:"
"""A conversation about a ticket that has no session yet: `issue:<id>`."""
DELEGATED: Final = "delegated:"
"""How the semantic key of a ticket begins that was handed over without a session."""
REQUESTED: Final = "session:"
"""How the semantic key of a session's request begins."""
PROMPTED: Final = "activity:"
"""How the semantic key of what is said in a session begins."""
TAKEN_BACK: Final = "The ticket was taken back."
CLOSED: Final = "The ticket was closed."
STOP_SIGNS: Final = frozenset({"octagonal_sign", "stop_sign", "🛑"})
PLACEHOLDER: Final = "This thread is for an agent session"
"""How Linear's own comment begins that a session without a mention hangs on."""
MAX_TEXT: Final = 60_000
MAX_CONTEXT: Final = 20_000

ReadT = TypeVar("ReadT", bound=Read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The app in one workspace, as its deliveries know it."""

    organization_id: str
    app_user_id: str
    app_name: str
    """By which people mention it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is known of a delivery beside its payload."""

    to: Installation
    delivery_id: str
    at: datetime


def read_envelope(payload: Mapping[str, object]) -> Envelope:
    """Raises MalformedPayloadError where it lacks what every delivery has."""
    return _read(Envelope, payload)


def parse_event(payload: Mapping[str, object], arrival: Arrival) -> Inbound | None:
    """What somebody asks for, or None where it is nothing that could concern us.

    Not read, because a session event tells the same: issueAssignedToYou, issueMention,
    issueCommentMention, issueNewComment.

    Raises:
        MalformedPayloadError: it lacks what its type promises.
    """
    envelope = read_envelope(payload)
    match envelope.type, envelope.action:
        case "AgentSessionEvent", "created":
            return created(_read(SessionEvent, payload), arrival)
        case "AgentSessionEvent", "prompted":
            return prompted(_read(SessionEvent, payload), arrival)
        case "AppUserNotification", kind:
            return _notified(kind, payload, arrival)
        case "Issue", "create" | "update":
            return _triggered(_read(IssueEvent, payload), arrival)
        case _:
            return None


def gone(envelope: Envelope, *, delivery_id: str, at: datetime) -> Inbound:
    """An admin has taken the app out of the workspace."""
    team = envelope.organization_id
    return Inbound(
        event_id=delivery_id,
        semantic_key=f"gone:{delivery_id}",
        conversation=Conversation(channel=NAME, team=team, place="", thread=""),
        message_id=team,
        author=AUTOMATION,
        author_name="an automation",
        text="",
        addressed=False,
        received_at=at,
        happening="gone",
    )


def _read(shape: type[ReadT], payload: Mapping[str, object]) -> ReadT:
    try:
        return shape.model_validate(payload)
    except ValidationError as error:
        fields = invalid_fields(error)
        raise MalformedPayloadError(f"Linear's delivery is without a valid {fields}") from None


def created(event: SessionEvent, arrival: Arrival) -> Inbound | None:
    """A ticket was delegated, or somebody mentioned the app: `complete` knows the rest."""
    session, us = event.agent_session, arrival.to
    if session.app_user_id != us.app_user_id or session.creator_id == us.app_user_id:
        return None  # another agent's, or begun by ourselves
    issue = session.issue
    title = one_line(issue.title) if issue else ""
    text = request_text(title, issue.description if issue else None)
    if (mention := _mention(session, us)) is not None:
        text = mention
    before = [c.body for c in event.previous_comments or ()]
    context = event.prompt_context or "\n\n".join(before)
    return Inbound(
        event_id=arrival.delivery_id,
        semantic_key=f"{REQUESTED}{session.id}",
        conversation=conversation(us.organization_id, issue, session.id),
        message_id=issue.id if issue else session.id,
        author=author(session.creator, session.creator_id),
        author_name=name(session.creator),
        text=text,
        addressed=True,
        link=_link(session.url, issue),
        received_at=arrival.at,
        partial=True,
        item=item(issue),
        title=title_for(text, title, mentioned=mention is not None),
        context=limited(clean(context), MAX_CONTEXT),
        guidance=clean("\n\n".join(rule.body for rule in event.guidance or ())),
    )


def _mention(session: Session, us: Installation) -> str | None:
    """What was said to the app, if it was mentioned and not handed a ticket."""
    comment = session.comment
    if comment is None or comment.body.startswith(PLACEHOLDER):
        return None
    if comment.user_id == us.app_user_id:
        return None
    if comment.user_id is None and not mentions(comment.body, us.app_name):
        return None
    return limited(clean(without_mention(comment.body, us.app_name)), MAX_TEXT)


def prompted(event: SessionEvent, arrival: Arrival) -> Inbound | None:
    session, activity, us = event.agent_session, event.agent_activity, arrival.to
    if activity is None:
        raise MalformedPayloadError("Linear's delivery is without a valid agentActivity")
    if session.app_user_id != us.app_user_id or activity.user_id == us.app_user_id:
        return None
    return Inbound(
        event_id=arrival.delivery_id,
        semantic_key=f"{PROMPTED}{activity.id}",
        conversation=conversation(us.organization_id, session.issue, session.id),
        message_id=activity.id,
        author=author(activity.user, activity.user_id),
        author_name=name(activity.user),
        text=prompt_text(activity, us),
        addressed=True,
        link=_link(session.url, session.issue),
        received_at=arrival.at,
        item=item(session.issue),
    )


def prompt_text(activity: Activity, us: Installation) -> str:
    """The signal counts before the words."""
    if activity.signal == "stop":
        return "stop"
    body = activity.content.get("body")
    said = body if isinstance(body, str) else activity.body or ""
    return limited(clean(without_mention(said, us.app_name)), MAX_TEXT)


def _notified(kind: str, payload: Mapping[str, object], arrival: Arrival) -> Inbound | None:
    """A ticket was taken back or closed, or somebody put a 🛑 there."""
    if kind not in {"issueUnassignedFromYou", "issueStatusChanged"} and "Reaction" not in kind:
        return None
    note = _read(NotificationEvent, payload).notification
    if note.actor_id == arrival.to.app_user_id:
        return None
    if "Reaction" in kind:
        return _about(note, arrival, text="stop") if note.reaction_emoji in STOP_SIGNS else None
    text = TAKEN_BACK if kind == "issueUnassignedFromYou" else CLOSED
    if text == CLOSED and note.actor_id is None:
        return None  # a rule of Linear's, after a merge say: nobody takes anything back
    return _about(note, arrival, text=text).model_copy(
        update={"happening": "withdrawn", "addressed": False}
    )


def _about(note: Notification, arrival: Arrival, *, text: str) -> Inbound:
    """Said about a ticket: `complete` knows by which of our sessions it is worked on."""
    return Inbound(
        event_id=arrival.delivery_id,
        semantic_key=f"notification:{note.id}",
        conversation=conversation(
            arrival.to.organization_id, note.issue, f"{ISSUE_PREFIX}{note.issue.id}"
        ),
        message_id=note.issue.id,
        author=author(note.actor, note.actor_id),
        author_name=name(note.actor),
        text=text,
        addressed=True,
        link=issue_link(note.issue),
        received_at=arrival.at,
        partial=True,
        item=item(note.issue),
    )


def _triggered(event: IssueEvent, arrival: Arrival) -> Inbound | None:
    """A label or a state was set; whether that is a request, a policy knows."""
    issue, actor = event.data, event.actor
    topics = _newly_set(event)
    if not topics or (actor is not None and actor.id == arrival.to.app_user_id):
        return None
    title = one_line(issue.title)
    return Inbound(
        event_id=arrival.delivery_id,
        semantic_key=f"set:{issue.id}:{issue.updated_at}",
        conversation=conversation(arrival.to.organization_id, issue, f"{ISSUE_PREFIX}{issue.id}"),
        message_id=issue.id,
        author=author(actor, None),
        author_name=name(actor),
        text=request_text(title, issue.description),
        addressed=False,
        link=issue_link(issue),
        received_at=arrival.at,
        happening="triggered",
        partial=True,
        item=item(issue),
        title=title,
        topics=topics,
    )


def _newly_set(event: IssueEvent) -> tuple[str, ...]:
    issue, before = event.data, event.updated_from
    labels, state = issue.labels, issue.state
    if event.action == "update":
        had = before.label_ids if before else None
        labels = () if had is None else tuple(x for x in labels if x.id not in had)
        state = state if before and before.state_id is not None else None
    return (
        *(label_topic(label.name) for label in labels),
        *((f"{NAME}:state:{one_line(state.name)}",) if state else ()),
    )


# --- words that completion and polling use too


def label_topic(label: str) -> str:
    return f"{NAME}:label:{one_line(label)}"


def conversation(organization: str, issue: Issue | None, thread: str) -> Conversation:
    place = issue.team.key if issue and issue.team else ""
    return Conversation(channel=NAME, team=organization, place=place, thread=thread)


def author(person: Person | None, person_id: str | None) -> str:
    """As a policy names people: by email where there is one, in small letters."""
    if person is not None and person.email and "@" in person.email:
        return f"{NAME}:{''.join(one_line(person.email).split()).lower()}"
    known = person.id if person is not None else person_id
    return f"{NAME}:{known}" if known else AUTOMATION


def name(person: Person | None) -> str:
    return one_line(person.name) if person else "an automation"


def request_text(title: str, description: str | None) -> str:
    """Who hands a ticket over takes its words as the request."""
    return limited(clean(f"{title}\n\n{description or ''}").strip(), MAX_TEXT)


def title_for(text: str, title: str, *, mentioned: bool) -> str:
    """A single word that was said to the app (`help`, `stop`) is no request that bears the ticket's title."""
    return "" if mentioned and len(text.split()) <= 1 else title


def item(issue: Issue | None) -> str:
    """As people name it: `ENG-12`."""
    return one_line(issue.identifier) if issue else ""


def issue_link(issue: Issue | None) -> str:
    return issue.url if issue and is_web(issue.url) else ""


def _link(url: str | None, issue: Issue | None) -> str:
    return url if url and is_web(url) else issue_link(issue)
