"""Linear as others have rebuilt it: what npm's `emulate` has right of OAuth, issues, comments and states.

Whoever wrote that server has read Linear's documentation without us, and so catches where we have misread it.
"""

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from integrations.errors import AuthError, RejectedError
from integrations.linear.answers import Done, Teams
from integrations.linear.documents import TEAM_BY_KEY, UPDATE_ISSUE
from integrations.linear.oauth import install_ticket
from integrations.linear.workspaces import Workspace
from tests.contract.linear.site import Site, config, listening, site_for
from tests.support.emulate import LINEAR_CALLBACK, LINEAR_KEY, Emulated, emulate, skip_or_fail
from tests.support.linear.oauth import API_KEY
from tests.support.linear.server import LinearApi, linear_api
from tests.support.linear.webhooks import SECRET

pytestmark = pytest.mark.timeout(60)

BY_CREDENTIALS = "client_credentials"
NEW_ISSUE = """
mutation NewIssue($input: IssueCreateInput!) {
  issueCreate(input: $input) { success issue { id identifier number state { name type } } }
}
"""
NEW_COMMENT = """
mutation NewComment($input: CommentCreateInput!) { commentCreate(input: $input) { success comment { id body } } }
"""
NEW_WEBHOOK = """
mutation NewWebhook($input: WebhookCreateInput!) { webhookCreate(input: $input) { success } }
"""
LABELS = "{ issueLabels(first: 10) { nodes { id name } } }"
TEAM = """
{ teams(first: 1, filter: { key: { eq: "ENG" } }) {
  nodes { id key states(first: 20) { nodes { id name type position } } }
} }
"""
ISSUE = """
query Issue($id: String!) {
  issue(id: $id) {
    identifier title description priority priorityLabel team { key } state { name type } creator { name }
    delegate { id } labels(first: 5) { nodes { name } } comments(first: 5) { nodes { body user { name } } }
  }
}
"""


@pytest.fixture
async def emulated() -> AsyncIterator[Emulated]:
    skip_or_fail()
    async with emulate(["linear"]) as servers:
        yield servers


@pytest.fixture
async def there(emulated: Emulated) -> LinearApi:
    """What our side needs to know of a Linear: where it is."""
    return LinearApi(url=emulated.linear_url)


@pytest.fixture
async def installed(there: LinearApi) -> AsyncIterator[Site]:
    async with site_for(there, mode=BY_CREDENTIALS) as site:
        assert await site.channel.check() == []
        yield site


# Any: data is JSON.
async def as_dana(url: str, key: str, document: str, **variables: Any) -> Any:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{url}/graphql",
            json={"query": document, "variables": variables},
            headers={"Authorization": key},
        )
    body = answer.json()
    assert answer.status_code == 200, body
    return body["data"]


async def workspace(site: Site) -> Workspace:
    [found] = await site.channel._workspaces.installed()
    return found


# --- OAuth


async def consented(site: Site) -> dict[str, str]:
    """As an admin's browser does: our link, Linear's page with its button, and what comes back."""
    ticket = install_ticket(config(site.linear), now=site.clock())
    async with httpx.AsyncClient(trust_env=False) as browser:
        ours = await browser.get(f"{site.url}/linear/oauth/authorize?ticket={ticket}")
        page = await browser.get(ours.headers["location"])
        assert page.status_code == 200, page.text
        fields = re.findall(r'name="(\w+)" value="([^"]*)"', page.text)
        form = {name: unescape(value) for name, value in fields}
        back = await browser.post(f"{site.linear.url}/oauth/authorize/callback", data=form)
    where = urlsplit(back.headers["location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == LINEAR_CALLBACK
    return {name: values[0] for name, values in parse_qs(where.query).items()}


async def came_back(site: Site, query: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as browser:
        return await browser.get(f"{site.url}/linear/oauth/callback", params=query)


async def test_an_admin_installs_by_the_link(there: LinearApi) -> None:
    async with site_for(there) as made, listening(made) as site:
        query = await consented(site)
        page = await came_back(site, query)
        assert page.status_code == 200, page.text
        assert "installed in Acme" in page.text
        assert "ENG" in page.text
        assert await site.channel.check() == []
        assert (await came_back(site, query)).status_code == 400


@pytest.mark.parametrize("what", ["code", "state"])
async def test_a_consent_that_was_tampered_with_installs_nothing(
    there: LinearApi, what: str
) -> None:
    async with site_for(there) as made, listening(made) as site:
        query = await consented(site)
        assert (await came_back(site, query | {what: "another"})).status_code in {400, 502}
        assert await site.channel._workspaces.installed() == []


async def test_a_refresh_token_is_good_once_and_gives_the_next(there: LinearApi) -> None:
    async with site_for(there) as made, listening(made) as site:
        await came_back(site, await consented(site))
        first = await workspace(site)
        where = first.organization_id
        await site.channel._workspaces.renewed(where, used=first.access_token)
        second = await workspace(site)
        assert second.access_token != first.access_token
        assert second.refresh_token not in {"", first.refresh_token}

        endpoint = site.channel._workspaces._endpoint
        with pytest.raises(AuthError):
            await endpoint.refresh(first.refresh_token)
        assert (await endpoint.refresh(second.refresh_token)).access_token


async def test_the_workspace_that_owns_the_app_needs_no_link(installed: Site) -> None:
    found = await workspace(installed)
    assert (found.name, found.app_name, found.team_keys) == ("Acme", "errand", ("ENG",))
    assert await installed.channel._workspaces.renewed(
        found.organization_id, used=found.access_token
    )


async def test_a_wrong_secret_is_told(there: LinearApi) -> None:
    async with site_for(there, mode=BY_CREDENTIALS, client_secret="wrong") as site:
        [problem] = await site.channel.check()
        assert "client credentials" in problem


# --- issues, states, people


@pytest.mark.parametrize("by", ["email", "id"])
async def test_people_have_names(installed: Site, there: LinearApi, by: str) -> None:
    users = await as_dana(there.url, LINEAR_KEY, "{ users(first: 9) { nodes { id name email } } }")
    [dana] = [user for user in users["users"]["nodes"] if user["name"] == "Dana"]
    assert await installed.channel.name_of(f"linear:{dana[by]}") == "Dana"
    with pytest.raises(RejectedError):
        await installed.channel.name_of("linear:nobody@acme.example")


async def test_a_team_is_found_by_its_key(installed: Site) -> None:
    where = (await workspace(installed)).organization_id
    for key, found in (("ENG", ["ENG"]), ("OPS", [])):
        answer = await installed.channel._api.ask(where, TEAM_BY_KEY, Teams, key=key)
        assert [team.key for team in answer.teams.nodes] == found


async def test_a_ticket_is_moved_and_taken_over(installed: Site, there: LinearApi) -> None:
    team = (await as_dana(there.url, LINEAR_KEY, TEAM))["teams"]["nodes"][0]
    made = await as_dana(
        there.url, LINEAR_KEY, NEW_ISSUE, input={"teamId": team["id"], "title": "Fix it"}
    )
    issue = made["issueCreate"]["issue"]
    us = await workspace(installed)
    [started] = [state["id"] for state in team["states"]["nodes"] if state["type"] == "started"]
    changes = {"stateId": started, "delegateId": us.app_user_id}
    for _ in range(2):
        await installed.channel._api.ask(
            us.organization_id, UPDATE_ISSUE, Done, id=issue["id"], input=changes
        )
    moved = (await as_dana(there.url, LINEAR_KEY, ISSUE, id=issue["identifier"]))["issue"]
    assert (moved["state"]["name"], moved["delegate"]["id"]) == ("In Progress", us.app_user_id)


# --- webhooks


async def subscribed(site: Site, secret: str) -> None:
    wanted = {"url": f"{site.url}/linear/webhook", "resourceTypes": ["Issue", "Comment"]}
    await as_dana(
        site.linear.url, LINEAR_KEY, NEW_WEBHOOK,
        input=wanted | {"secret": secret, "allPublicTeams": True},
    )  # fmt: skip


async def labelled(site: Site) -> dict[str, Any]:
    """A ticket with a label, and a comment on it."""
    url = site.linear.url
    team = (await as_dana(url, LINEAR_KEY, TEAM))["teams"]["nodes"][0]
    labels = (await as_dana(url, LINEAR_KEY, LABELS))["issueLabels"]["nodes"]
    [label] = [label for label in labels if label["name"] == "errand"]
    wanted = {"teamId": team["id"], "title": "Fix it", "labelIds": [label["id"]]}
    made = await as_dana(url, LINEAR_KEY, NEW_ISSUE, input=wanted)
    issue: dict[str, Any] = made["issueCreate"]["issue"]
    await as_dana(url, LINEAR_KEY, NEW_COMMENT, input={"issueId": issue["id"], "body": "hm"})
    return issue


async def test_what_it_signs_is_taken_and_what_another_signs_is_not(installed: Site) -> None:
    async with listening(installed) as site:
        await subscribed(site, SECRET)
        issue = await labelled(site)
        [inbound] = site.inbounds
        assert inbound.happening == "triggered"
        assert inbound.topics == ("linear:label:errand",)
        assert (inbound.item, inbound.text) == (issue["identifier"], "Fix it")
        assert inbound.author == "linear:dana@acme.example"

        await subscribed(site, "another")
        with capture_logs() as logs:
            await labelled(site)
        told = [entry["event"] for entry in logs]
        assert told.count("linear_signature_bad") == 2
        assert told.count("linear_delivery_ignored") == 1
        assert len(site.inbounds) == 2


# --- our own stand-in says the same


@pytest.fixture(params=["emulate", "stand-in"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, str]]:
    """Where a Linear is, and Dana's key there."""
    if request.param == "emulate":
        skip_or_fail()
        async with emulate(["linear"]) as servers:
            yield servers.linear_url, LINEAR_KEY
    else:
        async with linear_api() as linear:
            yield linear.url, API_KEY


async def test_tickets_comments_and_states_are_the_same_in_both(either: tuple[str, str]) -> None:
    team = (await as_dana(*either, TEAM))["teams"]["nodes"][0]
    states = {state["type"]: state for state in team["states"]["nodes"]}
    assert (team["key"], states["started"]["name"]) == ("ENG", "In Progress")

    wanted = {"teamId": team["id"], "title": "Fix it", "description": "Soon", "priority": 2}
    wanted["stateId"] = states["unstarted"]["id"]
    made = (await as_dana(*either, NEW_ISSUE, input=wanted))["issueCreate"]
    issue = made["issue"]
    assert made["success"]
    assert issue["identifier"] == f"ENG-{issue['number']:g}"
    assert issue["state"]["type"] == "unstarted"

    await as_dana(*either, UPDATE_ISSUE, id=issue["id"], input={"stateId": states["started"]["id"]})
    await as_dana(*either, NEW_COMMENT, input={"issueId": issue["id"], "body": "I saw it *too*"})
    for name in (issue["id"], issue["identifier"]):
        found = (await as_dana(*either, ISSUE, id=name))["issue"]
        assert found == {
            "identifier": issue["identifier"],
            "title": "Fix it",
            "description": "Soon",
            "priority": 2,
            "priorityLabel": "High",
            "team": {"key": "ENG"},
            "state": {"name": "In Progress", "type": "started"},
            "creator": {"name": "Dana"},
            "delegate": None,
            "labels": {"nodes": []},
            "comments": {"nodes": [{"body": "I saw it *too*", "user": {"name": "Dana"}}]},
        }
