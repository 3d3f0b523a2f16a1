"""The stand-in's agent sessions behave as Linear's do."""

import uuid
from typing import Any

import pytest
from gql.transport.exceptions import TransportQueryError

from tests.contract.linear.conftest import Asker
from tests.support.linear.entities import Session
from tests.support.linear.server import LinearApi

ACT = """
mutation Act($input: AgentActivityCreateInput!) {
  agentActivityCreate(input: $input) { success agentActivity { id } }
}
"""
UPDATE = """
mutation Update($id: String!, $input: AgentSessionUpdateInput!) {
  agentSessionUpdate(id: $id, input: $input) { success agentSession { id status plan externalUrls } }
}
"""
READ = """
query Read($id: String!, $first: Int, $after: String) {
  agentSession(id: $id) {
    status plan summary externalUrls externalLinks { label url } startedAt endedAt
    creator { name } appUser { isMe } comment { body user { name } botActor { name } }
    activities(first: $first, after: $after) {
      nodes {
        id ephemeral signal signalMetadata user { name }
        content {
          __typename
          ... on AgentActivityThoughtContent { body }
          ... on AgentActivityActionContent { action parameter result }
          ... on AgentActivityPromptContent { body }
        }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""
SESSIONS = "{ agentSessions(first: 10, orderBy: updatedAt) { nodes { id appUser { isMe } } } }"


@pytest.fixture
async def session(linear: LinearApi) -> Session:
    return await linear.people.delegate(linear.world.issue("The login test is flaky"))


def saying(session: Session, kind: str, body: str = "words", **more: Any) -> dict[str, Any]:
    return {"agentSessionId": session.id, "content": {"type": kind, "body": body}, **more}


async def refused(ask: Asker, document: str, **variables: Any) -> dict[str, Any]:
    """The extensions of the error that it gives."""
    with pytest.raises(TransportQueryError) as raised:
        await ask(document, **variables)
    assert raised.value.errors
    error: dict[str, Any] = raised.value.errors[0]
    return {"message": error["message"], **error["extensions"]}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("thought", "active"),
        ("elicitation", "awaitingInput"),
        ("response", "complete"),
        ("error", "error"),
    ],
)
async def test_the_status_follows_from_the_last_activity(
    ask: Asker, session: Session, kind: str, status: str
) -> None:
    assert session.status == "pending"
    await ask(ACT, input=saying(session, kind))
    read = (await ask(READ, id=session.id))["agentSession"]
    assert read["status"] == status
    assert read["startedAt"] is not None
    assert (read["endedAt"] is not None) == (status in {"complete", "error"})


async def test_a_prompt_makes_an_ended_session_active_again(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    await ask(ACT, input=saying(session, "response"))
    await linear.people.prompt(session, "also the CI config")
    assert (session.status, session.ended_at) == ("active", None)


async def test_a_prompt_to_a_session_that_was_never_answered_leaves_it_pending(
    linear: LinearApi, session: Session
) -> None:
    await linear.people.prompt(session, "are you there?")
    assert session.status == "pending"


async def test_a_stop_is_told_by_its_signal_until_the_agent_confirms(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    await ask(ACT, input=saying(session, "thought"))
    await linear.people.stop(session)
    read = (await ask(READ, id=session.id, first=1))["agentSession"]
    assert read["status"] == "stopping"
    assert read["activities"]["nodes"][0]["signal"] == "stop"
    await ask(ACT, input=saying(session, "response", "Stopped."))
    assert session.status == "complete"


async def test_a_stale_session_comes_back_with_the_next_activity(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    linear.people.grow_stale(session)
    await ask(ACT, input=saying(session, "thought"))
    assert session.status == "active"


@pytest.mark.parametrize("kind", ["response", "elicitation", "error"])
async def test_last_words_and_questions_are_comments_too(
    linear: LinearApi, ask: Asker, session: Session, kind: str
) -> None:
    await ask(ACT, input=saying(session, kind, "Here it is."))
    comment = linear.world.comments[-1]
    assert (comment.body, comment.user) == ("Here it is.", linear.world.app)
    assert comment.parent is session.comment


async def test_thoughts_and_actions_are_no_comments(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    await ask(ACT, input=saying(session, "thought"))
    content = {"type": "action", "action": "Ran", "parameter": "npm test", "result": "212 passed"}
    await ask(ACT, input={"agentSessionId": session.id, "content": content})
    assert linear.world.comments == [session.comment]
    assert session.said() == ["words", "Ran npm test"]


async def test_an_ephemeral_activity_is_replaced_by_the_next(ask: Asker, session: Session) -> None:
    await ask(ACT, input=saying(session, "thought", "reading", ephemeral=True))
    await ask(ACT, input=saying(session, "thought", "found it"))
    nodes = (await ask(READ, id=session.id))["agentSession"]["activities"]["nodes"]
    assert [n["content"]["body"] for n in nodes] == ["found it"]
    assert len(session.history) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"content": {"type": "response", "body": "x"}, "ephemeral": True},
        {"content": {"type": "action", "action": "Ran"}},
        {"content": {"type": "thought", "body": " "}},
        {"content": {"type": "prompt", "body": "x"}},
        {"content": {"type": "poem", "body": "x"}},
        {"content": {"type": "thought", "body": "x"}, "id": "not-a-uuid"},
        {"content": {"type": "thought", "body": "x"}, "signal": "select"},
        {"content": {"type": "elicitation", "body": "x"}, "signal": "select"},
        {"content": {"type": "elicitation", "body": "x"}, "signal": "auth"},
    ],
)
async def test_what_agents_must_not_send_is_refused(
    ask: Asker, session: Session, wrong: dict[str, Any]
) -> None:
    error = await refused(ask, ACT, input={"agentSessionId": session.id, **wrong})
    assert (error["message"], error["code"]) == ("Argument Validation Error", "INVALID_INPUT")
    assert error["userError"] is True
    assert session.history == []


async def test_a_question_may_offer_a_choice(ask: Asker, session: Session) -> None:
    options = [{"label": "acme/web", "value": "web"}, {"label": "acme/api", "value": "api"}]
    given = saying(
        session, "elicitation", "Which?", signal="select", signalMetadata={"options": options}
    )
    await ask(ACT, input=given)
    [node] = (await ask(READ, id=session.id))["agentSession"]["activities"]["nodes"]
    assert (node["signal"], node["signalMetadata"]) == ("select", {"options": options})


async def test_an_id_is_taken_once(ask: Asker, session: Session) -> None:
    given = saying(session, "response", id=str(uuid.uuid4()))
    made = await ask(ACT, input=given)
    assert made["agentActivityCreate"]["agentActivity"]["id"] == given["id"]
    error = await refused(ask, ACT, input=given)
    assert error["message"] == "conflict on insert of AgentActivity"
    assert (error["code"], error["type"]) == ("INPUT_ERROR", "invalid input")
    assert (
        error["userPresentableMessage"]
        == f"Entity AgentActivity with id {given['id']} already exists."
    )
    assert len(session.history) == 1


async def test_a_plan_is_replaced_as_a_whole(ask: Asker, session: Session) -> None:
    first = [{"content": "find", "status": "inProgress"}, {"content": "fix", "status": "pending"}]
    await ask(UPDATE, id=session.id, input={"plan": first})
    await ask(UPDATE, id=session.id, input={"plan": [{"content": "fix", "status": "completed"}]})
    assert session.plan == [{"content": "fix", "status": "completed"}]
    error = await refused(
        ask, UPDATE, id=session.id, input={"plan": [{"content": "fix", "status": "done"}]}
    )
    assert error["code"] == "INVALID_INPUT"


async def test_addresses_are_added_removed_or_replaced_and_unique(
    ask: Asker, session: Session
) -> None:
    run, pull = ({"label": name, "url": f"https://{name}.example"} for name in ("run", "pull"))
    await ask(UPDATE, id=session.id, input={"externalUrls": [run]})
    assert session.first_sign_at is not None
    await ask(UPDATE, id=session.id, input={"addedExternalUrls": [pull]})
    assert session.urls == [run["url"], pull["url"]]
    await ask(UPDATE, id=session.id, input={"removedExternalUrls": [run["url"]]})
    assert session.urls == [pull["url"]]
    error = await refused(ask, UPDATE, id=session.id, input={"addedExternalUrls": [pull]})
    assert error["code"] == "INVALID_INPUT"


async def test_a_summary_alone_is_no_sign_of_life(ask: Asker, session: Session) -> None:
    await ask(UPDATE, id=session.id, input={"summary": "Fix the flaky login test"})
    assert session.first_sign_at is None
    error = await refused(ask, UPDATE, id=session.id, input={"summary": "two\nlines"})
    assert error["code"] == "INVALID_INPUT"


async def test_activities_come_in_pages_newest_first(ask: Asker, session: Session) -> None:
    for number in range(5):
        await ask(ACT, input=saying(session, "thought", str(number)))
    seen, after = [], None
    while True:
        page = (await ask(READ, id=session.id, first=2, after=after))["agentSession"]["activities"]
        seen += [node["content"]["body"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == ["4", "3", "2", "1", "0"]


async def test_a_delegation_starts_a_thread_of_linears_own(ask: Asker, session: Session) -> None:
    read = (await ask(READ, id=session.id))["agentSession"]
    assert read["creator"] == {"name": "Dana"}
    assert read["appUser"] == {"isMe": True}
    assert read["comment"]["body"] == "This thread is for an agent session with errand."
    assert read["comment"]["user"] is None
    assert read["comment"]["botActor"] == {"name": "Linear"}


async def test_an_agent_can_begin_a_session_itself(linear: LinearApi, ask: Asker) -> None:
    issue = linear.world.issue("Renew the certificate")
    link = {"label": "run", "url": "https://run.example"}
    made = await ask(
        """mutation M($input: AgentSessionCreateOnIssue!) {
             agentSessionCreateOnIssue(input: $input) { agentSession { creator { id } externalUrls } }
           }""",
        input={"issueId": issue.identifier, "externalUrls": [link]},
    )
    assert made["agentSessionCreateOnIssue"]["agentSession"] == {
        "creator": None,
        "externalUrls": [link],
    }


async def test_a_session_on_a_comment_needs_a_root_without_one(
    linear: LinearApi, ask: Asker
) -> None:
    document = """mutation M($input: AgentSessionCreateOnComment!) {
      agentSessionCreateOnComment(input: $input) { agentSession { comment { id } } }
    }"""
    issue = linear.world.issue("Renew the certificate")
    root = linear.world.comment(issue, "who does this?", user=linear.world.lee)
    child = linear.world.comment(issue, "not me", user=linear.world.dana, parent=root)
    assert (await refused(ask, document, input={"commentId": child.id}))["code"] == "INPUT_ERROR"
    made = await ask(document, input={"commentId": root.id})
    assert made["agentSessionCreateOnComment"]["agentSession"]["comment"]["id"] == root.id
    assert (await refused(ask, document, input={"commentId": root.id}))["code"] == "INPUT_ERROR"


@pytest.mark.usefixtures("session")
async def test_sessions_of_other_agents_are_seen_and_cannot_be_written(
    linear: LinearApi, ask: Asker
) -> None:
    theirs = await linear.people.delegate(linear.world.issue("Something else"))
    theirs.app_user = linear.world.rival
    nodes = (await ask(SESSIONS))["agentSessions"]["nodes"]
    assert [n["appUser"]["isMe"] for n in nodes] == [False, True]
    assert (await refused(ask, ACT, input=saying(theirs, "thought")))["code"] == "FORBIDDEN"


async def test_what_was_touched_last_is_listed_first(
    linear: LinearApi, ask: Asker, session: Session
) -> None:
    other = await linear.people.delegate(linear.world.issue("Something else"))
    await linear.people.prompt(session, "any news?")
    nodes = (await ask(SESSIONS))["agentSessions"]["nodes"]
    assert [n["id"] for n in nodes] == [session.id, other.id]
