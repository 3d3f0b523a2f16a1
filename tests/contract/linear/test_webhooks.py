"""The stand-in tells what happens as Linear does: signed, in Linear's shapes, and again on demand."""

import hashlib
import hmac
import json
import re
import time
from typing import Any

import pytest

from tests.contract.linear.conftest import Asker, Receiver
from tests.support.linear.server import LinearApi
from tests.support.linear.shapes import faults_of
from tests.support.linear.webhooks import SECRET

MOVE = "mutation M($id: String!, $input: IssueUpdateInput!) { issueUpdate(id: $id, input: $input) { success } }"
BEGIN = """
mutation M($input: AgentSessionCreateOnIssue!) {
  agentSessionCreateOnIssue(input: $input) { success }
}
"""


def told(receiver: Receiver) -> list[str]:
    bodies = [json.loads(raw) for _, raw in receiver.received]
    return [f"{body['type']}/{body['action']}" for body in bodies]


def last(receiver: Receiver) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(receiver.received[-1][1])
    return body


async def test_a_delivery_is_signed_over_its_raw_body(
    linear: LinearApi, receiver: Receiver
) -> None:
    await linear.people.delegate(linear.world.issue("Überall"))
    headers, raw = receiver.received[-1]
    assert headers["Linear-Signature"] == hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    assert headers["Linear-Event"] == "AgentSessionEvent"
    assert headers["User-Agent"] == "Linear-Webhook"
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["Linear-Delivery"])
    assert abs(json.loads(raw)["webhookTimestamp"] - time.time() * 1000) < 5_000


async def test_a_delegation_is_told(linear: LinearApi, receiver: Receiver) -> None:
    world = linear.world
    world.guidance = [
        ("Write tests.", None),
        ("Use uv.", world.team),
        ("Not ours.", world.other_team),
    ]
    issue = world.issue("Fix <it>", description="Soon", labels=["bug"], project="Web")
    session = await linear.people.delegate(issue, by=world.lee)
    assert told(receiver) == [
        "Issue/update", "AppUserNotification/issueAssignedToYou", "AgentSessionEvent/created",
    ]  # fmt: skip
    body = last(receiver)
    assert body["organizationId"] == world.organization.id
    assert (body["oauthClientId"], body["appUserId"]) == (world.oauth_client_id, world.app.id)
    assert (body["agentSession"]["id"], body["agentSession"]["status"]) == (session.id, "pending")
    assert body["agentSession"]["creator"]["email"] == "lee@acme.example"
    assert body["agentSession"]["issue"]["identifier"] == "ENG-1"
    assert [rule["body"] for rule in body["guidance"]] == ["Use uv.", "Write tests."]
    assert body["agentActivity"] is None
    context = body["promptContext"]
    assert context.startswith(
        '<issue identifier="ENG-1">\n<title>Fix <it></title>\n<description>Soon'
    )
    assert "<label>bug</label>" in context
    assert context.endswith(
        '<guidance>\n<guidance-rule origin="team" team-name="Engineering">Use uv.</guidance-rule>\n'
        '<guidance-rule origin="organization">Write tests.</guidance-rule>\n</guidance>'
    )


async def test_an_automation_delegates_for_nobody(linear: LinearApi, receiver: Receiver) -> None:
    await linear.people.delegate(linear.world.issue("Fix"), automation=True)
    assert last(receiver)["agentSession"]["creator"] is None


async def test_a_mention_is_told_with_what_was_said_before(
    linear: LinearApi, receiver: Receiver
) -> None:
    issue = linear.world.issue("Fix")
    root = linear.world.comment(issue, "it fails on Mondays", user=linear.world.lee)
    session = await linear.people.mention(issue, "please fix", thread=root)
    assert told(receiver) == [
        "AppUserNotification/issueCommentMention",
        "AgentSessionEvent/created",
    ]
    body = last(receiver)
    assert [c["body"] for c in body["previousComments"]] == ["it fails on Mondays"]
    assert body["agentSession"]["comment"]["id"] == root.id
    assert body["agentSession"]["sourceCommentId"] == linear.world.comments[-1].id
    assert "@errand please fix" in body["promptContext"]
    assert f'<primary-directive-thread comment-id="{root.id}">' in body["promptContext"]
    assert session.comment is root


async def test_a_mention_in_the_agents_own_thread_is_a_prompt(
    linear: LinearApi, receiver: Receiver
) -> None:
    issue = linear.world.issue("Fix")
    session = await linear.people.mention(issue, "please fix")
    assert await linear.people.mention(issue, "and test", thread=session.comment) is session
    assert told(receiver)[-1] == "AgentSessionEvent/prompted"
    assert linear.world.sessions == [session]


async def test_a_prompt_and_a_stop_are_told(linear: LinearApi, receiver: Receiver) -> None:
    session = await linear.people.delegate(linear.world.issue("Fix"))
    await linear.people.prompt(session, "also the docs", by=linear.world.lee)
    body = last(receiver)
    assert (body["action"], "promptContext" in body) == ("prompted", False)
    assert body["agentActivity"]["content"] == {"type": "prompt", "body": "also the docs"}
    assert body["agentActivity"]["user"]["name"] == "Lee"
    assert body["agentActivity"]["sourceCommentId"] == linear.world.comments[-1].id
    await linear.people.stop(session)
    assert last(receiver)["agentActivity"]["signal"] == "stop"
    assert last(receiver)["agentSession"]["status"] == "stopping"


async def test_what_is_taken_away_or_moved_is_told_with_what_was_before(
    linear: LinearApi, receiver: Receiver
) -> None:
    issue = linear.world.issue("Fix")
    before = issue.state.id
    await linear.people.delegate(issue)
    receiver.received.clear()
    await linear.people.complete(issue)
    await linear.people.unassign(issue)
    assert told(receiver) == [
        "Issue/update", "AppUserNotification/issueStatusChanged",
        "Issue/update", "AppUserNotification/issueUnassignedFromYou",
    ]  # fmt: skip
    moved, left = (json.loads(receiver.received[n][1]) for n in (0, 2))
    assert moved["updatedFrom"]["stateId"] == before
    assert moved["data"]["state"]["type"] == "completed"
    assert moved["data"]["completedAt"] is not None
    assert moved["actor"]["name"] == "Dana"
    assert left["updatedFrom"]["delegateId"] == linear.world.app.id
    assert left["data"].get("delegateId") is None


async def test_a_label_is_told_with_the_labels_before(
    linear: LinearApi, receiver: Receiver
) -> None:
    issue = linear.world.issue("Fix", labels=["bug"])
    await linear.people.add_label(issue, "agent")
    body = last(receiver)
    assert body["updatedFrom"]["labelIds"] == [linear.world.label("bug").id]
    assert [label["name"] for label in body["data"]["labels"]] == ["bug", "agent"]


async def test_comments_and_reactions_reach_the_inbox(
    linear: LinearApi, receiver: Receiver
) -> None:
    issue = linear.world.issue("Fix")
    await linear.people.comment(issue, "not delegated: nobody is told")
    await linear.people.delegate(issue)
    comment = await linear.people.comment(issue, "any news?")
    await linear.people.react(issue, "octagonal_sign")
    comment.user = linear.world.app
    await linear.people.react(comment, "thumbsup")
    assert [name.partition("/")[2] for name in told(receiver)[3:]] == [
        "issueNewComment", "issueEmojiReaction", "issueCommentReaction",
    ]  # fmt: skip
    assert last(receiver)["notification"]["reactionEmoji"] == "thumbsup"


async def test_lost_teams_and_a_lost_installation_are_told(
    linear: LinearApi, receiver: Receiver
) -> None:
    await linear.people.change_teams([linear.world.team])
    body = last(receiver)
    assert (body["type"], body["action"]) == ("PermissionChange", "teamAccessChanged")
    assert body["removedTeamIds"] == [linear.world.other_team.id]
    await linear.people.revoke()
    body = last(receiver)
    assert (body["type"], body["action"]) == ("OAuthApp", "revoked")
    assert body["oauthClientId"] == linear.world.oauth_client_id


async def test_what_the_app_changes_itself_is_told_but_not_to_its_inbox(
    linear: LinearApi, ask: Asker, receiver: Receiver
) -> None:
    issue = linear.world.issue("Fix")
    given = {"delegateId": linear.world.app.id, "stateId": issue.team.state("started").id}
    await ask(MOVE, id=issue.id, input=given)
    await linear.webhooks.settled()
    assert told(receiver) == ["Issue/update"]
    assert last(receiver)["actor"]["id"] == linear.world.app.id
    await ask(BEGIN, input={"issueId": issue.id})
    await linear.webhooks.settled()
    assert told(receiver) == ["Issue/update"]
    linear.world.tells_own_sessions = True
    await ask(BEGIN, input={"issueId": issue.id})
    await linear.webhooks.settled()
    assert told(receiver)[-1] == "AgentSessionEvent/created"


async def test_a_delivery_can_be_repeated_with_the_same_id(
    linear: LinearApi, receiver: Receiver
) -> None:
    receiver.status = 500
    await linear.people.delegate(linear.world.issue("Fix"))
    [delivery] = linear.webhooks.named("AgentSessionEvent/created")
    assert [a.status for a in delivery.answers] == [500]
    assert not delivery.delivered
    receiver.status = 200
    answer = await linear.webhooks.redeliver()
    assert (answer.status, delivery.delivered) == (200, True)
    assert 0 < answer.seconds < 5
    first, again = receiver.received[-2:]
    assert first[0]["Linear-Delivery"] == again[0]["Linear-Delivery"] == delivery.id
    assert json.loads(first[1])["createdAt"] == json.loads(again[1])["createdAt"]


async def test_a_delivery_can_be_old_or_signed_by_somebody_else(
    linear: LinearApi, receiver: Receiver
) -> None:
    await linear.people.delegate(linear.world.issue("Fix"))
    await linear.webhooks.redeliver(at=1_700_000_000)
    assert last(receiver)["webhookTimestamp"] == 1_700_000_000_000
    await linear.webhooks.redeliver(secret="another")
    headers, raw = receiver.received[-1]
    assert headers["Linear-Signature"] == hmac.new(b"another", raw, hashlib.sha256).hexdigest()


async def test_nobody_there_is_an_answer_too(linear: LinearApi, receiver: Receiver) -> None:
    linear.webhooks.url = f"{receiver.url.removesuffix('/linear')}/elsewhere"
    await linear.people.delegate(linear.world.issue("Fix"))
    assert [a.status for d in linear.webhooks.deliveries for a in d.answers] == [404, 404, 404]


async def test_without_an_address_nothing_is_told(linear: LinearApi) -> None:
    session = await linear.people.delegate(linear.world.issue("Fix"))
    await linear.people.prompt(session, "more")
    assert linear.webhooks.deliveries == []
    assert linear.world.news == []


async def test_types_can_be_off(linear: LinearApi, receiver: Receiver) -> None:
    linear.webhooks.off = {"Issue", "AppUserNotification"}
    await linear.people.delegate(linear.world.issue("Fix"))
    assert told(receiver) == ["AgentSessionEvent/created"]


@pytest.mark.usefixtures("receiver")
async def test_a_body_that_is_not_linears_is_found(linear: LinearApi) -> None:
    await linear.people.delegate(linear.world.issue("Fix"))
    body = linear.webhooks.deliveries[-1].body
    assert faults_of(body) == []
    assert faults_of({**body, "colour": "red"}) == ["body.colour is not in the schema"]
    assert faults_of({**body, "organizationId": None}) == ["body.organizationId is null"]
    session = {**body["agentSession"], "url": 1}
    assert faults_of({**body, "agentSession": session}) == ["body.agentSession.url is no String"]
