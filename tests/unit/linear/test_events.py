from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.channel import Conversation, Inbound
from integrations.errors import MalformedPayloadError
from integrations.linear.events import Arrival, Installation, parse_event, read_envelope
from tests.support.linear_payloads import APP_USER, ORGANIZATION, bodies

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
US = Installation(organization_id=ORGANIZATION, app_user_id=APP_USER, app_name="errand")
ARRIVAL = Arrival(to=US, delivery_id="d1", at=NOW)
DANA = {"id": "dana", "name": "Dana", "email": "Dana@acme.example", "url": ""}
ISSUE = {
    "id": "i1", "identifier": "ENG-12", "title": "Fix the\nlogin", "description": "It is flaky.",
    "url": "https://linear.app/acme/issue/ENG-12/fix", "teamId": "t1",
    "team": {"id": "t1", "key": "ENG", "name": "Engineering"},
}  # fmt: skip


def created(**session: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "id": "s1", "appUserId": APP_USER, "issue": ISSUE, "creator": DANA, "creatorId": "dana",
        "url": "https://linear.app/acme/issue/ENG-12#s1", "comment": None,
    }  # fmt: skip
    return {
        "type": "AgentSessionEvent", "action": "created", "organizationId": ORGANIZATION,
        "agentSession": known | session, "promptContext": "<issue/>", "somethingNew": {"a": 1},
    }  # fmt: skip


def prompted(**activity: Any) -> dict[str, Any]:
    known = {"id": "a1", "userId": "dana", "user": DANA, "content": {"body": "@errand more"}}
    return created() | {"action": "prompted", "agentActivity": known | activity}


def notified(kind: str, **note: Any) -> dict[str, Any]:
    known = {"id": "n1", "issue": ISSUE, "actorId": "dana", "actor": DANA}
    return {
        "type": "AppUserNotification", "action": kind, "organizationId": ORGANIZATION,
        "notification": known | note,
    }  # fmt: skip


def changed(action: str = "update", *, before: Any, actor: Any = DANA) -> dict[str, Any]:
    labels = [{"id": "l1", "name": "bug"}, {"id": "l2", "name": "errand"}]
    state = {"id": "x1", "name": "Ready"}
    return {
        "type": "Issue", "action": action, "organizationId": ORGANIZATION, "actor": actor,
        "data": ISSUE | {"labels": labels, "state": state, "updatedAt": "2026-11-20T12:00:00Z"},
        "updatedFrom": before,
    }  # fmt: skip


def parsed(raw: dict[str, Any]) -> Inbound | None:
    return parse_event(raw, ARRIVAL)


def found(raw: dict[str, Any]) -> Inbound:
    inbound = parsed(raw)
    assert inbound is not None
    return inbound


def test_a_delegation_becomes_an_inbound() -> None:
    assert parsed(created()) == Inbound(
        event_id="d1",
        semantic_key="session:s1",
        conversation=Conversation(channel="linear", team=ORGANIZATION, place="ENG", thread="s1"),
        message_id="i1",
        author="linear:dana@acme.example",
        author_name="Dana",
        text="Fix the login\n\nIt is flaky.",
        addressed=True,
        link="https://linear.app/acme/issue/ENG-12#s1",
        received_at=NOW,
        partial=True,
        item="ENG-12",
        title="Fix the login",
        context="<issue/>",
    )


def test_a_mention_is_what_was_said() -> None:
    comment = {"id": "c1", "body": "@errand, look here", "userId": "dana"}
    inbound = found(created(comment=comment))
    assert (inbound.text, inbound.title) == ("look here", "Fix the login")


@pytest.mark.parametrize(
    "comment",
    [
        {"id": "c1", "body": "This thread is for an agent session with Errand.", "userId": "dana"},
        {"id": "c1", "body": "anything", "userId": APP_USER},
        {"id": "c1", "body": "anything", "userId": None},
        {"id": "c1", "body": "anything"},
    ],
    ids=str,
)
def test_linears_own_comment_is_no_mention(comment: dict[str, Any]) -> None:
    assert found(created(comment=comment)).text.startswith("Fix the login")


@pytest.mark.parametrize(
    ("session", "author", "name"),
    [
        ({"creator": None, "creatorId": None}, "linear:automation", "an automation"),
        ({"creator": None, "creatorId": "lee"}, "linear:lee", "an automation"),
        ({"creator": {"id": "lee", "name": "Lee", "email": None}}, "linear:lee", "Lee"),
        ({"creator": {"id": "lee", "name": "L", "email": "a b@x\u202e.y"}}, "linear:ab@x.y", "L"),
    ],
)
def test_who_asks_is_named_by_email_or_id(session: dict[str, Any], author: str, name: str) -> None:
    inbound = found(created(**session))
    assert (inbound.author, inbound.author_name) == (author, name)


@pytest.mark.parametrize(
    "session", [{"appUserId": "another"}, {"creatorId": APP_USER}], ids=["rival", "ours"]
)
def test_other_agents_and_sessions_of_ours_are_no_requests(session: dict[str, Any]) -> None:
    assert parsed(created(**session)) is None


def test_a_session_without_a_ticket_is_told_to_who_decides() -> None:
    inbound = found(created(issue=None))
    assert (inbound.conversation.where, inbound.message_id, inbound.text) == ("linear:", "s1", "")


@pytest.mark.parametrize(
    ("activity", "text"),
    [
        ({}, "more"),
        ({"content": {}, "body": "@errand: older"}, "older"),
        ({"content": {"body": 3}}, ""),
        ({"signal": "stop", "content": {"body": "go on"}}, "stop"),
        ({"signal": "somethingNew"}, "more"),
        ({"content": {"body": "a\x00b\x1b[31mc"}}, "abc"),
    ],
)
def test_what_is_said_is_read_where_it_may_stand(activity: dict[str, Any], text: str) -> None:
    inbound = found(prompted(**activity))
    assert inbound.text == text
    assert inbound.semantic_key == "activity:a1"
    assert inbound.title == ""


def test_what_we_said_ourselves_is_not_said_to_us() -> None:
    assert parsed(prompted(userId=APP_USER)) is None


@pytest.mark.parametrize("kind", ["issueUnassignedFromYou", "issueStatusChanged"])
def test_what_is_taken_back_is_withdrawn(kind: str) -> None:
    inbound = found(notified(kind))
    assert (inbound.happening, inbound.addressed, inbound.partial) == ("withdrawn", False, True)
    assert inbound.conversation.thread == "issue:i1"
    assert inbound.semantic_key == "notification:n1"


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("issueUnassignedFromYou", {"actorId": APP_USER}),
        ("issueStatusChanged", {"actorId": None, "actor": None}),
        ("issueEmojiReaction", {"reactionEmoji": "eyes"}),
        ("issueCommentReaction", {}),
        ("issueAssignedToYou", {}),
        ("issueMention", {}),
        ("issueCommentMention", {}),
        ("issueNewComment", {}),
        ("somethingNew", {}),
    ],
)
def test_what_nobody_wants_from_us_is_ignored(kind: str, note: dict[str, Any]) -> None:
    assert parsed(notified(kind, **note)) is None


def test_a_notification_that_is_not_read_may_have_any_shape() -> None:
    assert parsed(notified("projectUpdateCreated") | {"notification": {"id": 3}}) is None


@pytest.mark.parametrize("kind", ["issueEmojiReaction", "issueCommentReaction"])
def test_a_stop_sign_says_stop(kind: str) -> None:
    inbound = found(notified(kind, reactionEmoji="octagonal_sign"))
    assert (inbound.text, inbound.addressed, inbound.happening) == ("stop", True, "said")


@pytest.mark.parametrize(
    ("action", "before", "topics"),
    [
        ("update", {"labelIds": ["l1"]}, ("linear:label:errand",)),
        ("update", {"labelIds": []}, ("linear:label:bug", "linear:label:errand")),
        ("update", {"stateId": "x0"}, ("linear:state:Ready",)),
        (
            "update",
            {"labelIds": ["l2"], "stateId": "x0"},
            ("linear:label:bug", "linear:state:Ready"),
        ),
        ("create", None, ("linear:label:bug", "linear:label:errand", "linear:state:Ready")),
    ],
)
def test_what_was_newly_set_may_be_a_request(
    action: str, before: object, topics: tuple[str, ...]
) -> None:
    inbound = found(changed(action, before=before))
    assert inbound.topics == topics
    assert (inbound.happening, inbound.addressed) == ("triggered", False)
    assert inbound.conversation.thread == "issue:i1"


@pytest.mark.parametrize(
    "raw",
    [
        changed(before={"title": "x"}),
        changed(before={"labelIds": ["l1", "l2", "l3"]}),
        changed(before=None),
        changed("remove", before={"labelIds": []}),
        changed(before={"labelIds": []}, actor={"id": APP_USER, "name": "Errand"}),
        {"type": "Comment", "action": "create", "organizationId": ORGANIZATION},
        {"type": "AgentSessionEvent", "action": "somethingNew", "organizationId": ORGANIZATION},
    ],
)
def test_other_changes_are_ignored(raw: dict[str, Any]) -> None:
    assert parsed(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        created(id=None),
        created(id="a b"),
        created(issue=ISSUE | {"team": {"key": "a:b"}}),
        created() | {"agentSession": None},
        created() | {"action": "prompted", "agentActivity": None},
        notified("issueUnassignedFromYou", issue=None),
        {"type": "AgentSessionEvent", "action": "created"},
        {},
    ],
    ids=str,
)
def test_a_delivery_without_what_its_type_promises_is_malformed(raw: dict[str, Any]) -> None:
    with pytest.raises(MalformedPayloadError):
        parsed(raw)


def test_an_error_does_not_repeat_what_was_said() -> None:
    with pytest.raises(MalformedPayloadError) as raised:
        parsed(created(id="secret thing"))
    assert "secret" not in str(raised.value)


def test_a_revocation_is_seen() -> None:
    raw = {"type": "OAuthApp", "action": "revoked", "organizationId": ORGANIZATION}
    assert read_envelope(raw).revokes
    assert not read_envelope(created()).revokes


@given(body=bodies())
def test_every_delivery_of_linears_types_is_read_or_is_malformed(body: dict[str, Any]) -> None:
    try:
        inbound = parsed(body)
    except MalformedPayloadError:
        return
    if inbound is not None:
        inbound.model_dump_json().encode()
        assert "\x00" not in inbound.text + inbound.title + inbound.context + inbound.author
        assert inbound.conversation.thread


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    at=st.sampled_from(["agentSession", "agentActivity", "guidance", "promptContext"]),
    field=st.sampled_from(["", "id", "issue", "creator", "comment", "content", "user", "signal"]),
    value=JSON,
)
def test_no_payload_raises_anything_else(at: str, field: str, value: object) -> None:
    body = prompted()
    if field and isinstance(body.get(at), dict):
        body[at][field] = value
    else:
        body[at] = value
    for action in ("created", "prompted"):
        try:
            parsed(body | {"action": action})
        except MalformedPayloadError:
            continue
