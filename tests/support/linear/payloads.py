"""Webhook bodies, as `webhooks.graphql` has their types. What is true only when one is sent is added when it is sent."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.alias_generators import to_camel

from tests.support.linear.entities import (
    Activity,
    Comment,
    Content,
    Entity,
    Issue,
    Label,
    Session,
    Team,
    User,
)
from tests.support.linear.prompt import prompt_context
from tests.support.linear.schema import moment

if TYPE_CHECKING:
    from tests.support.linear.world import World

Json: TypeAlias = dict[str, Any]
"""Any: a body is raw JSON for whoever receives it."""


def session_created(world: "World", session: Session, *, before: list[Comment]) -> Json:
    """`before`: what was said in the thread before the agent was mentioned in an answer."""
    return {
        **_for_app(world, "AgentSessionEvent", "created"),
        "agentSession": _session(session),
        "agentActivity": None,
        "guidance": _guidance(world, session.issue.team) or None,
        "previousComments": [_comment(c) for c in before] or None,
        "promptContext": prompt_context(world, session),
    }


def session_prompted(world: "World", session: Session, activity: Activity) -> Json:
    return {
        **_for_app(world, "AgentSessionEvent", "prompted"),
        "agentSession": _session(session),
        "agentActivity": _activity(activity),
        "guidance": _guidance(world, session.issue.team) or None,
    }


def issue_updated(
    world: "World", issue: Issue, *, before: Mapping[str, Any], by: User | None
) -> Json:
    """`before`: attributes as they were."""
    return {
        **_envelope(world, "Issue", "update"),
        "actor": {**_user(by), "type": "user"} if by else None,
        "data": _issue(issue),
        "updatedFrom": dict(_reference(name, value) for name, value in before.items()),
        "url": issue.url,
    }


def notification(
    world: "World", kind: str, issue: Issue, *, by: User | None, comment: Comment | None = None
) -> Json:
    """One in the app's inbox; `kind` is also the webhook's action."""
    stamp = world.stamp()
    told: Json = {
        **_times(stamp["created_at"], stamp["updated_at"]), "id": stamp["id"], "type": kind,
        "userId": world.app.id, "issueId": issue.id, "issue": _described(issue),
        "actorId": by.id if by else None, "actor": _user(by) if by else None,
    }  # fmt: skip
    if comment is not None:
        told |= {"commentId": comment.id, "comment": _comment(comment)}
        parent = comment.parent
        told |= {"parentCommentId": parent.id, "parentComment": _comment(parent)} if parent else {}
    return {**_for_app(world, "AppUserNotification", kind), "notification": told}


def reaction(told: Json, emoji: str) -> Json:
    """A notification of a reaction: the same, and the emoji."""
    return {**told, "notification": {**told["notification"], "reactionEmoji": emoji}}


def teams_changed(world: "World", *, added: list[Team], removed: list[Team]) -> Json:
    return {
        **_for_app(world, "PermissionChange", "teamAccessChanged"),
        "canAccessAllPublicTeams": world.app_teams == world.teams,
        "addedTeamIds": [team.id for team in added],
        "removedTeamIds": [team.id for team in removed],
    }


def revoked(world: "World") -> Json:
    return {
        **_envelope(world, "OAuthApp", "revoked"),
        "oauthClientId": world.oauth_client_id,
    }


# --- parts


def _envelope(world: "World", kind: str, action: str) -> Json:
    return {
        "type": kind,
        "action": action,
        "createdAt": moment(world.now()),
        "organizationId": world.organization.id,
        "webhookId": world.webhook_id,
    }


def _for_app(world: "World", kind: str, action: str) -> Json:
    return {
        **_envelope(world, kind, action),
        "oauthClientId": world.oauth_client_id,
        "appUserId": world.app.id,
    }


def _session(session: Session) -> Json:
    source, creator = session.source_comment, session.creator
    return {
        **_times(session.created_at, session.updated_at),
        "id": session.id, "type": "commentThread", "status": session.status,
        "url": session.url, "summary": session.summary, "appUserId": session.app_user.id,
        "organizationId": session.app_user.organization.id,
        "creatorId": creator.id if creator else None, "creator": _user(creator) if creator else None,
        "issueId": session.issue.id, "issue": _described(session.issue),
        "commentId": session.comment.id, "comment": _comment(session.comment),
        "sourceCommentId": source.id if source else None, "sourceMetadata": None,
        "startedAt": moment(session.started_at) if session.started_at else None,
        "endedAt": moment(session.ended_at) if session.ended_at else None,
    }  # fmt: skip


def _activity(activity: Activity) -> Json:
    source = activity.source_comment
    return {
        **_times(activity.created_at, activity.updated_at),
        "id": activity.id, "agentSessionId": activity.agent_session.id,
        "content": _content(activity.content), "signal": activity.signal,
        "signalMetadata": activity.signal_metadata,
        "sourceCommentId": source.id if source else None,
        "userId": activity.user.id, "user": _user(activity.user),
    }  # fmt: skip


def _content(content: Content) -> Json:
    return {"type": content.type, "body": content.body}


def _issue(issue: Issue) -> Json:
    people = {
        name: person
        for name in ("assignee", "creator", "delegate")
        if (person := getattr(issue, name)) is not None
    }
    return {
        **_described(issue), **_times(issue.created_at, issue.updated_at),
        "number": issue.number, "priority": issue.priority, "priorityLabel": issue.priority_label,
        "prioritySortOrder": 0.0, "sortOrder": 0.0, "estimate": issue.estimate,
        "stateId": issue.state.id,
        "state": {name: getattr(issue.state, name) for name in ("id", "name", "type", "color")},
        "labelIds": issue.label_ids, "labels": [_label(label) for label in issue.label_list],
        **{f"{name}Id": person.id for name, person in people.items()},
        **{name: _user(person) for name, person in people.items()},
        "parentId": issue.parent.id if issue.parent else None,
        "projectId": issue.project.id if issue.project else None,
        "previousIdentifiers": [], "reactionData": [], "subscriberIds": [],
        **{
            to_camel(name): moment(value) if (value := getattr(issue, name)) else None
            for name in ("started_at", "completed_at", "canceled_at")
        },
    }  # fmt: skip


def _described(issue: Issue) -> Json:
    team = issue.team
    return {
        "id": issue.id, "identifier": issue.identifier, "title": issue.title,
        "description": issue.description, "url": issue.url, "teamId": team.id,
        "team": {"id": team.id, "key": team.key, "name": team.name},
    }  # fmt: skip


def _comment(comment: Comment) -> Json:
    return {
        "id": comment.id, "body": comment.body, "issueId": comment.issue.id,
        "userId": comment.user.id if comment.user else None,
    }  # fmt: skip


def _user(user: User) -> Json:
    return {
        "id": user.id, "name": user.name, "email": user.email, "url": user.url,
        "avatarUrl": user.avatar_url,
    }  # fmt: skip


def _label(label: Label) -> Json:
    return {"id": label.id, "name": label.name, "color": label.color, "parentId": None}


def _guidance(world: "World", team: Team) -> list[Json]:
    """The nearest first: the team's own before the workspace's."""
    own = [
        {"body": body, "origin": {"type": "team", "team": {
            "id": team.id, "key": team.key, "name": team.name, "displayName": team.name,
            "parentId": team.parent_id,
        }}}
        for body, at in world.guidance if at is team
    ]  # fmt: skip
    everywhere = [
        {"body": body, "origin": {"type": "organization"}}
        for body, at in world.guidance
        if at is None
    ]
    return own + everywhere


def _times(created: datetime, updated: datetime) -> Json:
    return {"createdAt": moment(created), "updatedAt": moment(updated), "archivedAt": None}


def _reference(name: str, value: object) -> tuple[str, object]:
    """How `updatedFrom` names a value: entities by their ids."""
    if name == "label_list":
        assert isinstance(value, list)
        return "labelIds", [label.id for label in value]
    if name in {"state", "delegate", "assignee", "project", "parent"}:
        return f"{name}Id", value.id if isinstance(value, Entity) else None
    if isinstance(value, datetime):
        return to_camel(name), moment(value)
    return to_camel(name), value.isoformat() if isinstance(value, date) else value
