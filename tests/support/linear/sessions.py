"""Agent sessions: their status follows from the last activity; nobody sets it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.support.linear import payloads
from tests.support.linear.entities import Activity, Comment, Content, Issue, Session, User
from tests.support.linear.errors import forbidden, invalid, refused
from tests.support.linear.world import World

_AFTER: Final = {
    "thought": "active",
    "action": "active",
    "elicitation": "awaitingInput",
    "response": "complete",
    "error": "error",
    "prompt": "active",
}
_PLAN: Final = {"pending", "inProgress", "completed", "canceled"}
_SUMMARY: Final = 255


def begin(
    world: World,
    issue: Issue,
    *,
    creator: User | None,
    comment: Comment | None = None,
    source: Comment | None = None,
    before: Sequence[Comment] = (),
) -> Session:
    """A session in a thread: that of the comment, or a new one whose root is Linear's own comment."""
    if comment is None:
        body = f"This thread is for an agent session with {world.app.display_name}."
        comment = world.comment(issue, body, user=None)
        comment.is_artificial_agent_session_root = True
    session = Session(
        **world.stamp(), app_user=world.app, issue=issue, comment=comment, source_comment=source,
        creator=None if creator is world.app else creator,
    )  # fmt: skip
    world.sessions.append(session)
    if creator is not world.app or world.tells_own_sessions:
        world.news.append(payloads.session_created(world, session, before=list(before)))
    return session


def act(world: World, session: Session, given: Mapping[str, Any], *, by: User) -> Activity:
    """What an agent does, as agentActivityCreate takes it."""
    owned(session, by=by)
    content, ephemeral = _content(given["content"]), bool(given.get("ephemeral"))
    signal, metadata = given.get("signal"), given.get("signal_metadata")
    if ephemeral and content.type not in {"thought", "action"}:
        raise invalid("Only activities of type thought and action can be ephemeral")
    _check_signal(content, signal, metadata)
    everything = [a for s in world.sessions for a in s.history]
    activity = Activity(
        **world.stamp(given.get("id"), among=everything), agent_session=session, content=content,
        user=by, ephemeral=ephemeral, signal=signal, signal_metadata=metadata,
    )  # fmt: skip
    if content.type in {"response", "elicitation", "error"}:
        activity.source_comment = world.comment(
            session.issue, content.body, user=by, parent=session.comment
        )
    _add(session, activity)
    return activity


def prompt(
    world: World, session: Session, body: str, *, by: User, signal: str | None = None,
    comment: Comment | None = None,
) -> Activity:  # fmt: skip
    """What a person says in a session. It is told."""
    activity = Activity(
        **world.stamp(), agent_session=session, content=Content(type="prompt", body=body), user=by,
        signal=signal, source_comment=comment,
    )  # fmt: skip
    _add(session, activity)
    world.news.append(payloads.session_prompted(world, session, activity))
    return activity


def update(world: World, session: Session, given: Mapping[str, Any], *, by: User) -> None:
    """Plan and addresses, as agentSessionUpdate takes them."""
    owned(session, by=by)
    if "plan" in given:
        session.plan = _plan(given["plan"])
    if "summary" in given:
        session.summary = _summary(given["summary"])
    if "external_link" in given:
        session.external_link = given["external_link"]
    _link(session, given)
    session.updated_at = world.now()
    if session.external_links:
        session.first_sign_at = session.first_sign_at or session.updated_at


def owned(session: Session, *, by: User) -> None:
    if session.app_user is not by:
        raise forbidden("The agent session belongs to another OAuth application")


def _add(session: Session, activity: Activity) -> None:
    session.shown = [a for a in session.shown if not a.ephemeral]
    session.shown.append(activity)
    session.history.append(activity)
    session.updated_at = now = activity.created_at
    kind = activity.content.type
    if activity.signal == "stop":
        session.status = "stopping"
    elif kind != "prompt" or session.started_at:
        session.status = _AFTER[kind]
    if kind != "prompt":
        session.first_sign_at = session.first_sign_at or now
        session.started_at = session.started_at or now
    session.ended_at = now if session.status in {"complete", "error"} else None


def _link(session: Session, given: Mapping[str, Any]) -> None:
    """`externalUrls` replaces all, and then the other two are ignored."""
    links = session.external_links
    if given.get("external_urls") is not None:
        links = list(given["external_urls"])
    else:
        gone = given.get("removed_external_urls") or []
        links = [link for link in links if link["url"] not in gone]
        links += given.get("added_external_urls") or []
    urls = [link["url"] for link in links]
    if len(urls) != len(set(urls)):
        raise invalid("externalUrls must have unique URLs")
    session.external_links = links


def _content(given: Mapping[str, Any]) -> Content:
    kind = given.get("type")
    if kind == "action":
        wanted: tuple[str, ...] = ("action", "parameter")
    elif kind in {"thought", "elicitation", "response", "error"}:
        wanted = ("body",)
    else:
        raise invalid(f"content.type must be one of the types that agents may create, not {kind}")
    for name in wanted:
        if not isinstance(given.get(name), str):
            raise invalid(f"content.{name} must be a string")
    if not given[wanted[0]].strip():
        raise invalid(f"content.{wanted[0]} must not be empty")
    return Content(type=kind, result=given.get("result"), **{name: given[name] for name in wanted})


def _check_signal(content: Content, signal: str | None, metadata: Any) -> None:
    if signal is None:
        return
    if signal not in {"auth", "select"} or content.type != "elicitation":
        raise invalid(f"signal {signal} cannot be sent with {content.type}")
    if signal == "auth" and not (metadata or {}).get("url"):
        raise invalid("signalMetadata.url is required for auth")
    options = (metadata or {}).get("options")
    if signal == "select" and not (options and all(option.get("value") for option in options)):
        raise invalid("signalMetadata.options is required for select, each with a value")


def _plan(plan: Any) -> Any:
    steps = plan or []
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("content"), str):
            raise invalid("each step of a plan has a content")
        if step.get("status") not in _PLAN:
            raise invalid(f"a step's status is one of {', '.join(sorted(_PLAN))}")
    return plan


def _summary(summary: str | None) -> str | None:
    if summary is not None and (not 1 <= len(summary) <= _SUMMARY or "\n" in summary):
        raise invalid(f"summary must be one line of 1 to {_SUMMARY} characters")
    return summary


def check_root(world: World, comment: Comment) -> None:
    """Whether a session can begin there."""
    if comment.parent is not None:
        raise refused("Agent sessions can only be created on root comments")
    if any(session.comment is comment for session in world.sessions):
        raise refused("The comment has an agent session already")
