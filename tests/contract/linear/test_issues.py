"""The stand-in's issues, comments and attachments behave as Linear's do."""

import uuid
from typing import Any

import pytest

from tests.contract.linear.conftest import Asker
from tests.contract.linear.test_sessions import refused
from tests.support.linear.oauth import API_KEY
from tests.support.linear.server import LinearApi

MOVE = """
mutation Move($id: String!, $input: IssueUpdateInput!) {
  issueUpdate(id: $id, input: $input) { success issue { state { name } delegate { isMe } labelIds } }
}
"""
ATTACH = """
mutation Attach($input: AttachmentCreateInput!) {
  attachmentCreate(input: $input) { attachment { id title subtitle } }
}
"""
LINK = """
mutation Link($issueId: String!, $url: String!, $title: String) {
  attachmentLinkGitHubPR(issueId: $issueId, url: $url, title: $title) { attachment { sourceType title } }
}
"""
COMMENT = (
    "mutation C($input: CommentCreateInput!) { commentCreate(input: $input) { comment { id } } }"
)
REACT = (
    "mutation R($input: ReactionCreateInput!) { reactionCreate(input: $input) { reaction { id } } }"
)
ISSUE = """
query Issue($id: String!) {
  issue(id: $id) {
    identifier title state { type } parent { identifier } priorityLabel
    labels(first: 5) { nodes { name } } children(first: 5) { nodes { identifier } }
    inverseRelations(first: 5) { nodes { type issue { identifier } relatedIssue { identifier } } }
  }
}
"""
ISSUES = """
query Issues($filter: IssueFilter) {
  issues(filter: $filter, first: 10, orderBy: updatedAt) { nodes { identifier } }
}
"""


async def found(ask: Asker, wanted: dict[str, Any]) -> list[str]:
    nodes = (await ask(ISSUES, filter=wanted))["issues"]["nodes"]
    return [node["identifier"] for node in nodes]


async def test_an_issue_is_found_by_id_and_by_identifier(linear: LinearApi, ask: Asker) -> None:
    parent = linear.world.issue("Epic")
    issue = linear.world.issue("Fix", labels=["bug"], parent=parent)
    await linear.people.block(issue, linear.world.issue("First this"))
    for key in (issue.id, "ENG-2"):
        read = (await ask(ISSUE, id=key))["issue"]
        assert (read["title"], read["parent"]) == ("Fix", {"identifier": "ENG-1"})
        assert read["labels"]["nodes"] == [{"name": "bug"}]
        [relation] = read["inverseRelations"]["nodes"]
        assert relation["type"] == "blocks"
        assert relation["issue"] == {"identifier": "ENG-3"}
        assert relation["relatedIssue"] == {"identifier": "ENG-2"}
    assert linear.world.blockers(issue)[0].title == "First this"


async def test_an_issue_that_is_not_there_is_an_error(ask: Asker) -> None:
    error = await refused(ask, ISSUE, id="ENG-99")
    assert (error["message"], error["code"]) == ("Entity not found: Issue", "INPUT_ERROR")


async def test_a_team_that_the_app_has_lost_is_not_there(linear: LinearApi, ask: Asker) -> None:
    issue = linear.world.issue("Fix")
    await linear.people.change_teams([linear.world.other_team])
    assert (await refused(ask, ISSUE, id=issue.id))["code"] == "INPUT_ERROR"
    assert await found(ask, {}) == []
    assert (await ask(ISSUE, token=API_KEY, id=issue.id))["issue"]["title"] == "Fix"


async def test_what_is_delegated_to_me_is_found_by_when_it_changed(
    linear: LinearApi, ask: Asker
) -> None:
    mine, other = linear.world.issue("Mine"), linear.world.issue("Other")
    await linear.people.delegate(mine)
    since = other.updated_at.isoformat()
    me: dict[str, Any] = {"delegate": {"isMe": {"eq": True}}}
    assert await found(ask, me | {"updatedAt": {"gt": since}}) == ["ENG-1"]
    assert await found(ask, me | {"updatedAt": {"lt": since}}) == []
    assert await found(ask, {"delegate": {"null": True}}) == ["ENG-2"]
    assert await found(ask, {"updatedAt": {"gt": "-PT5M"}}) == ["ENG-1", "ENG-2"]


async def test_issues_are_found_by_state_label_team_and_combinations(
    linear: LinearApi, ask: Asker
) -> None:
    linear.world.issue("A", state="started", labels=["bug"])
    linear.world.issue("B", state="completed")
    linear.world.issue("C", team=linear.world.other_team)
    assert await found(ask, {"state": {"type": {"in": ["started"]}}}) == ["ENG-1"]
    assert await found(ask, {"labels": {"name": {"eq": "bug"}}}) == ["ENG-1"]
    assert await found(
        ask, {"labels": {"every": {"name": {"eq": "bug"}}}, "team": {"key": {"eq": "OPS"}}}
    ) == ["OPS-1"]
    both = {"or": [{"title": {"eq": "B"}}, {"title": {"startsWith": "C"}}]}
    assert await found(ask, both) == ["OPS-1", "ENG-2"]
    await linear.people.complete(linear.world.issues[0])
    assert await found(ask, {"completedAt": {"gt": "2020-01-01"}}) == ["ENG-1"]
    assert await found(ask, {"completedAt": {"neq": "2020-01-01"}}) == ["ENG-1", "OPS-1", "ENG-2"]


async def test_an_issue_moves_and_takes_a_delegate(linear: LinearApi, ask: Asker) -> None:
    issue, label = linear.world.issue("Fix"), linear.world.label("agent")
    started = issue.team.state("started")
    given = {"stateId": started.id, "delegateId": linear.world.app.id, "addedLabelIds": [label.id]}
    moved = (await ask(MOVE, id="ENG-1", input=given))["issueUpdate"]["issue"]
    assert moved == {
        "state": {"name": "In Progress"},
        "delegate": {"isMe": True},
        "labelIds": [label.id],
    }
    assert issue.started_at is not None
    taken = await ask(MOVE, id="ENG-1", input={"delegateId": None, "removedLabelIds": [label.id]})
    assert taken["issueUpdate"]["issue"] == {
        "state": {"name": "In Progress"},
        "delegate": None,
        "labelIds": [],
    }


@pytest.mark.parametrize("name", ["delegateId", "stateId", "assigneeId"])
async def test_a_person_is_no_delegate_an_agent_no_assignee_and_a_state_is_the_teams(
    linear: LinearApi, ask: Asker, name: str
) -> None:
    linear.world.issue("Fix")
    wrong = {
        "delegateId": linear.world.dana.id,
        "assigneeId": linear.world.app.id,
        "stateId": linear.world.other_team.state("started").id,
    }
    error = await refused(ask, MOVE, id="ENG-1", input={name: wrong[name]})
    assert error["code"] == "INPUT_ERROR"


async def test_the_first_started_state_is_that_with_the_lowest_position(
    linear: LinearApi, ask: Asker
) -> None:
    document = """query T($id: String!) {
      team(id: $id) { states(filter: {type: {eq: "started"}}, first: 9) { nodes { name position } } }
    }"""
    states = (await ask(document, id=linear.world.team.id))["team"]["states"]["nodes"]
    assert [s["name"] for s in states] == ["In Review", "In Progress"]
    assert min(states, key=lambda s: s["position"])["name"] == "In Progress"


async def test_an_attachment_with_the_same_address_is_updated(
    linear: LinearApi, ask: Asker
) -> None:
    issue = linear.world.issue("Fix")
    given = {"issueId": issue.id, "url": "https://git.example/1", "title": "Pull request #1"}
    first = await ask(ATTACH, input=given)
    again = await ask(ATTACH, input=given | {"subtitle": "merged"})
    one, two = (made["attachmentCreate"]["attachment"] for made in (first, again))
    assert (one["id"], two["subtitle"]) == (two["id"], "merged")
    assert len(linear.world.attachments) == 1


async def test_a_pull_request_is_linked_where_github_is_connected(
    linear: LinearApi, ask: Asker
) -> None:
    issue = linear.world.issue("Fix")
    given = {"issueId": issue.id, "url": "https://github.com/acme/web/pull/481", "title": "#481"}
    linked = (await ask(LINK, **given))["attachmentLinkGitHubPR"]["attachment"]
    assert linked == {"sourceType": "github", "title": "#481"}
    linear.world.github_integration = False
    assert (await refused(ask, LINK, **given))["userError"] is True


async def test_comments_and_reactions_are_made_once(linear: LinearApi, ask: Asker) -> None:
    issue = linear.world.issue("Fix")
    given = {"issueId": issue.id, "body": "Linked.", "id": str(uuid.uuid4())}
    await ask(COMMENT, input=given)
    assert (await refused(ask, COMMENT, input=given))["message"] == "conflict on insert of Comment"
    reaction = {"commentId": given["id"], "emoji": "eyes"}
    await ask(REACT, input=reaction)
    assert (await refused(ask, REACT, input=reaction))[
        "message"
    ] == "conflict on insert of Reaction"
    assert (len(linear.world.comments), len(linear.world.reactions)) == (1, 1)


async def test_an_issue_is_created_once(linear: LinearApi, ask: Asker) -> None:
    document = "mutation I($input: IssueCreateInput!) { issueCreate(input: $input) { issue { identifier } } }"
    given = {"teamId": linear.world.team.id, "title": "Follow-up", "id": str(uuid.uuid4())}
    assert (await ask(document, input=given))["issueCreate"]["issue"] == {"identifier": "ENG-1"}
    assert (await refused(ask, document, input=given))["message"] == "conflict on insert of Issue"


async def test_repositories_are_suggested_among_the_candidates(
    linear: LinearApi, ask: Asker
) -> None:
    issue = linear.world.issue("Fix")
    linear.world.suggestions[issue.id] = [("acme/web", 0.9), ("acme/api", 0.2)]
    document = """query R($id: String!, $c: [CandidateRepository!]!) {
      issueRepositorySuggestions(issueId: $id, candidateRepositories: $c) {
        suggestions { repositoryFullName confidence hostname }
      }
    }"""
    candidates = [{"hostname": "github.com", "repositoryFullName": "acme/web"}]
    answer = await ask(document, id=issue.id, c=candidates)
    assert answer["issueRepositorySuggestions"]["suggestions"] == [
        {"repositoryFullName": "acme/web", "confidence": 0.9, "hostname": "github.com"}
    ]


async def test_issues_are_found_by_their_words_and_branches(linear: LinearApi, ask: Asker) -> None:
    issue = linear.world.issue("The login test is flaky")
    linear.world.issue("Something else")
    search = "query S($t: String!) { searchIssues(term: $t, first: 5) { nodes { identifier } totalCount } }"
    assert (await ask(search, t="LOGIN flaky"))["searchIssues"] == {
        "nodes": [{"identifier": "ENG-1"}],
        "totalCount": 1,
    }
    branch = "query B($b: String!) { issueVcsBranchSearch(branchName: $b) { identifier } }"
    for name in (issue.branch_name, "errand/eng-1-anything"):
        assert (await ask(branch, b=name))["issueVcsBranchSearch"] == {"identifier": "ENG-1"}
    assert (await ask(branch, b="main"))["issueVcsBranchSearch"] is None


async def test_who_asks_is_the_app_and_a_person_with_her_own_key(
    linear: LinearApi, ask: Asker
) -> None:
    me = "{ viewer { id name app isMe supportsAgentSessions organization { urlKey } } }"
    app, dana = (await ask(me))["viewer"], (await ask(me, token=API_KEY))["viewer"]
    assert (app["id"], app["app"], app["supportsAgentSessions"]) == (
        linear.world.app.id,
        True,
        True,
    )
    assert (dana["name"], dana["isMe"]) == ("Dana", True)
    found = await ask(
        '{ users(filter: {email: {eq: "dana@acme.example"}}, first: 1) { nodes { name } } }'
    )
    assert found["users"]["nodes"] == [{"name": "Dana"}]
