"""What was found by asking becomes Inbounds with the keys that webhooks would have given them: pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from integrations.channel import Inbound
from integrations.linear import payloads
from integrations.linear.answers import ChangedIssue, NewSession, Prompt, SessionHead
from integrations.linear.events import (
    AUTOMATION,
    CLOSED,
    DELEGATED,
    ISSUE_PREFIX,
    PLACEHOLDER,
    TAKEN_BACK,
    Arrival,
    Installation,
    conversation,
    created,
    issue_link,
    item,
    prompted,
    request_text,
)
from integrations.wording import one_line

PATIENCE: Final = timedelta(minutes=1)
"""How long after a delegation Linear may take to begin its session."""
ENDED: Final = frozenset({"complete", "error"})


def from_session(
    session: NewSession, us: Installation, *, since: datetime, now: datetime
) -> Iterator[Inbound]:
    """The request that began it, and what was said in it since, oldest first."""
    if session.app_user.id != us.app_user_id:
        return
    found = _session(session)
    if session.created_at > since:
        event = payloads.SessionEvent(agentSession=found)
        arrival = Arrival(to=us, delivery_id=f"polled:session:{session.id}", at=now)
        if (request := created(event, arrival)) is not None:
            yield request
    for prompt in sorted(session.activities.nodes, key=lambda one: one.created_at):
        event = payloads.SessionEvent(agentSession=found, agentActivity=_activity(prompt))
        arrival = Arrival(to=us, delivery_id=f"polled:activity:{prompt.id}", at=now)
        if (said := prompted(event, arrival)) is not None:
            yield said


def _session(session: NewSession) -> payloads.Session:
    comment, creator = session.comment, session.creator
    return payloads.Session(
        id=session.id,
        url=session.url,
        appUserId=session.app_user.id,
        issue=session.issue,
        comment=comment
        and payloads.Comment(
            id=comment.id, body=comment.body, userId=comment.user.id if comment.user else None
        ),
        creator=creator and creator.person,
        creatorId=creator.id if creator else None,
    )


def _activity(prompt: Prompt) -> payloads.Activity:
    return payloads.Activity(
        id=prompt.id,
        content={"body": prompt.content.body},
        signal=prompt.signal,
        user=prompt.user.person,
        userId=prompt.user.id,
    )


def from_issue(issue: ChangedIssue, us: Installation, *, now: datetime) -> Iterator[Inbound]:
    """A ticket that was taken back or closed while we work on it, or handed over without a session."""
    sessions = [s for s in issue.agent_sessions.nodes if s.app_user.id == us.app_user_id]
    for session in sessions:
        if session.status not in ENDED and (why := _withdrawn(issue, session, us)):
            yield _inbound(
                issue, us, thread=session.id, key=f"withdrawn:{session.id}", now=now
            ).model_copy(update={"happening": "withdrawn", "text": why})
    ours_to_do = issue.delegate is not None and issue.delegate.id == us.app_user_id
    if ours_to_do and not sessions and issue.state.is_open and issue.updated_at < now - PATIENCE:
        thread = f"{ISSUE_PREFIX}{issue.id}"
        title = one_line(issue.title)
        yield _inbound(issue, us, thread=thread, key=f"{DELEGATED}{issue.id}", now=now).model_copy(
            update={
                "addressed": True,
                "partial": True,
                "title": title,
                "text": request_text(title, issue.description),
            }
        )


def _withdrawn(issue: ChangedIssue, session: SessionHead, us: Installation) -> str:
    """Why, or nothing. A session that began with a mention, or that we began, needs no delegate."""
    if not issue.state.is_open:
        return CLOSED
    root = session.comment
    by_person = session.creator is not None and session.creator.id != us.app_user_id
    delegated = by_person and root is not None and root.body.startswith(PLACEHOLDER)
    still = issue.delegate is not None and issue.delegate.id == us.app_user_id
    return TAKEN_BACK if session.dismissed_at is not None or (delegated and not still) else ""


def _inbound(
    issue: ChangedIssue, us: Installation, *, thread: str, key: str, now: datetime
) -> Inbound:
    return Inbound(
        event_id=f"polled:{key}",
        semantic_key=key,
        conversation=conversation(us.organization_id, issue, thread),
        message_id=issue.id,
        author=AUTOMATION,
        author_name="an automation",
        text="",
        addressed=False,
        link=issue_link(issue),
        received_at=now,
        item=item(issue),
    )
