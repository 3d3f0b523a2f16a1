"""What happens where Linear, or another replica, does not do what was hoped for."""

import asyncio
import json
from dataclasses import dataclass

import httpx
import pytest
from typing_extensions import override

from integrations.channel import Card, Conversation, Final, Inbound, Mark, Notice, Opening, Question
from integrations.errors import (
    AuthError,
    IntegrationError,
    MalformedPayloadError,
    UnavailableError,
)
from integrations.linear.documents import WHO
from integrations.linear.workspaces import PREFIX, Workspace
from integrations.testing_notes import MemoryNotes
from tests.contract.linear.site import PAGE, Site, site_for
from tests.support.linear import errors, faults
from tests.support.linear.entities import Session
from tests.support.linear.faults import Fault, Reply
from tests.support.linear.oauth import TOKEN
from tests.support.linear.server import LinearApi

CARD = Card(
    task="01J", title="Fix it", repo="acme/web", repo_reason="", agent="script", state="working",
    live=True,
)  # fmt: skip
DONE = Final(
    outcome="succeeded", text="Done.", pull_url="https://github.com/acme/web/pull/1",
    review_state="In Review",
)  # fmt: skip


def answer(body: object, status: int = 200) -> Fault:
    return Fault(effect=False, reply=lambda: Reply(status=status, body=json.dumps(body)))


def no_token() -> Fault:
    return faults.failed(errors.unauthenticated())


@pytest.fixture
async def session(site: Site) -> Session:
    return await site.delegated()


@pytest.fixture
def here(site: Site, session: Session) -> Conversation:
    return site.conversation(session)


# --- answers


@pytest.mark.parametrize(
    "body",
    [[], 3, "text", None, {}, {"errors": {}}, {"errors": {"a": 1}}, {"errors": [3]},
     {"data": 3}, {"data": {"viewer": {"id": 3}}}],
    ids=str,
)  # fmt: skip
async def test_an_answer_of_no_shape_is_one_of_our_errors(
    site: Site, linear: LinearApi, body: object
) -> None:
    linear.faults.add(answer(body), operation="Who")
    [problem] = await site.channel.check()
    assert "check the network" in problem


async def test_no_answer_in_time_is_an_outage(site: Site, linear: LinearApi) -> None:
    linear.faults.add(faults.held(), operation="Who")
    with pytest.raises(UnavailableError, match="no answer within"):
        await site.channel._graphql.execute(WHO, {}, token=TOKEN, seconds=0.05)
    linear.release()


async def test_an_answer_that_lacks_a_field_is_told(
    site: Site, linear: LinearApi, here: Conversation
) -> None:
    linear.faults.add(faults.missing("agentSession.newest"), operation="LastWord")
    with pytest.raises(MalformedPayloadError, match=r"agentSession\.newest"):
        await site.channel.post(here, Notice(text="Hello"), key="k1")


async def test_a_hole_in_the_data_is_an_error_that_is_tried_again(
    site: Site, linear: LinearApi, here: Conversation
) -> None:
    linear.faults.add(faults.partial("agentSession.newest"), operation="LastWord")
    with pytest.raises(UnavailableError):
        await site.channel.post(here, Notice(text="Hello"), key="k1")


@pytest.mark.parametrize(
    "body", [{}, {"access_token": ""}, {"access_token": "a", "expires_in": 0}, []], ids=str
)
async def test_a_token_that_is_none_is_told(linear: LinearApi, body: object) -> None:
    linear.faults.add(answer(body), operation=faults.TOKEN)
    async with site_for(linear, mode="client_credentials") as site:
        [problem] = await site.channel.check()
        assert "without a token" in problem


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (400, {"error": "invalid_scope"}, "check the network"),
        (429, {}, "asks to wait"),
        (503, [], "is not available"),
        (403, {"error": "unauthorized_client"}, "client credentials"),
    ],
)
async def test_what_the_token_endpoint_refuses_is_told(
    linear: LinearApi, status: int, body: object, word: str
) -> None:
    linear.faults.add(answer(body, status), operation=faults.TOKEN)
    async with site_for(linear, mode="client_credentials") as site:
        [problem] = await site.channel.check()
        assert word in problem


# --- no token, anywhere: it waits, and nothing is given up


@pytest.mark.parametrize(
    "operation",
    ["SessionEnd", "UpdateSession", "attachmentLinkGitHubPR", "issueUpdate", "CreateActivity"],
)
async def test_no_token_holds_the_last_word_back_until_there_is_one(
    site: Site, linear: LinearApi, session: Session, here: Conversation, operation: str
) -> None:
    linear.faults.add(no_token(), operation=operation)
    with pytest.raises(AuthError):
        await site.channel.post(here, DONE, key="k1")
    assert session.said("response") == []


@pytest.mark.parametrize("operation", ["CreateActivity", "SessionStart", "issueUpdate"])
async def test_no_token_holds_the_first_sign_back(
    site: Site, linear: LinearApi, session: Session, here: Conversation, operation: str
) -> None:
    linear.faults.add(no_token(), operation=operation)
    with pytest.raises(AuthError):
        await site.channel.mark(here, session.issue.id, Mark.SEEN, present=True)


async def test_no_token_is_not_taken_for_not_there(
    site: Site, linear: LinearApi, here: Conversation
) -> None:
    posted = await site.channel.post(here, CARD, key="k1")
    for operation in ("Activity", "UserById", "issueCreate"):
        linear.faults.add(no_token(), operation=operation)
    where = Conversation(channel="linear", place="ENG", thread="")
    opening = Opening(title="Fix it", text="", url=f"{PAGE}/tasks/1")
    with pytest.raises(AuthError):
        await site.channel.find(here, key="k1", since=site.clock())
    with pytest.raises(AuthError):
        await site.channel.name_of("linear:someone")
    with pytest.raises(AuthError):
        await site.channel.open(where, opening, key="k1")
    assert await site.channel.find(here, key="k1", since=site.clock()) == posted


async def test_where_the_app_is_nowhere_work_from_elsewhere_waits(linear: LinearApi) -> None:
    async with site_for(linear) as site:
        where = Conversation(channel="linear", place="ENG", thread="")
        with pytest.raises(AuthError):
            await site.channel.open(where, Opening(title="x", text="", url=PAGE), key="k1")


# --- refusals that nothing depends on


async def test_a_ticket_that_can_not_be_moved_is_worked_on_all_the_same(
    site: Site, linear: LinearApi, session: Session, here: Conversation
) -> None:
    linear.faults.add(faults.permanent(), operation="issueUpdate")
    await site.channel.mark(here, session.issue.id, Mark.SEEN, present=True)
    assert session.said("thought")
    assert session.issue.state.type == "unstarted"


async def complete(site: Site) -> Inbound:
    await site.channel.polling(site.receive).round()
    return await site.channel.complete(site.inbounds[-1])


async def test_without_a_sign_of_life_the_request_is_still_read(
    site: Site, linear: LinearApi
) -> None:
    await site.delegated()
    linear.faults.add(faults.permanent(), operation="CreateActivity")
    assert (await complete(site)).text == "Fix it"


async def test_without_a_token_the_request_waits(site: Site, linear: LinearApi) -> None:
    await site.delegated()
    linear.faults.add(no_token(), operation="CreateActivity")
    with pytest.raises(AuthError):
        await complete(site)


async def test_a_notice_before_the_work_is_read_by_nobody_as_the_end_of_it(
    site: Site, session: Session, here: Conversation
) -> None:
    await site.channel.post(here, Question(text="Where?", options=()), key="k1")
    await site.channel.post(here, CARD, key="k2")
    await site.channel.post(here, Notice(text="Noted."), key="k3")
    assert session.status == "active"


async def test_a_closed_ticket_is_not_begun_by_a_label(heard: Site, linear: LinearApi) -> None:
    issue = linear.world.issue("Fix it", state="completed")
    await linear.people.add_label(issue, "errand")
    assert (await heard.channel.complete(heard.inbounds[-1])).happening == "said"


async def test_a_ticket_that_we_work_on_is_not_begun_by_a_label(
    heard: Site, linear: LinearApi
) -> None:
    session = await heard.delegated()
    await linear.people.add_label(session.issue, "errand")
    whole = await heard.channel.complete(heard.inbounds[-1])
    assert (whole.happening, whole.text) == ("said", "")


async def test_a_stop_sign_where_nothing_runs_disturbs_nobody(
    heard: Site, linear: LinearApi
) -> None:
    session = await heard.delegated()
    session.status = "complete"
    await linear.people.react(session.issue, "stop_sign")
    whole = await heard.channel.complete(heard.inbounds[-1])
    assert (whole.text, whole.addressed) == ("stop", False)


async def test_what_was_taken_back_and_given_again_goes_on(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await linear.people.unassign(session.issue)
    session.issue.delegate = linear.world.app
    assert (await heard.channel.complete(heard.inbounds[-1])).happening == "said"


async def test_a_conversation_of_nowhere_is_refused(site: Site) -> None:
    nowhere = Conversation(channel="linear", team="", place="ENG", thread="s1")
    for saying in (
        site.channel.post(nowhere, CARD, key="k1"),
        site.channel.edit(nowhere, "x", CARD),
        site.channel.mark(nowhere, "x", Mark.SEEN, present=True),
    ):
        with pytest.raises(IntegrationError, match="is no session"):
            await saying


async def test_a_delivery_without_its_id_is_malformed(heard: Site, linear: LinearApi) -> None:
    await heard.delegated()
    delivery = linear.webhooks.deliveries[-1]
    raw = json.dumps({**delivery.body, "webhookTimestamp": heard.clock().timestamp() * 1000})
    signed = linear.webhooks.headers(delivery, raw.encode(), stamp=0)
    del signed["Linear-Delivery"]
    async with httpx.AsyncClient() as client:
        answered = await client.post(f"{heard.url}/linear/webhook", content=raw, headers=signed)
    assert answered.status_code == 400


# --- other replicas


@dataclass(slots=True)
class Contested(MemoryNotes):
    """Another replica writes just before our next swap of a workspace."""

    theirs: str = ""

    @override
    async def swap(self, name: str, old: str | None, new: str | None) -> bool:
        if self.theirs and name.startswith(PREFIX):
            self.kept[name], self.theirs = self.theirs, ""
        return await MemoryNotes.swap(self, name, old, new)


async def contested(linear: LinearApi, **theirs: object) -> tuple[Contested, Workspace]:
    """What both know, and what the other replica is about to write."""
    notes = Contested()
    async with site_for(linear, notes=notes) as site:
        await site.install()
    [raw] = notes.kept.values()
    known = Workspace.model_validate_json(raw)
    notes.theirs = known.model_copy(update=theirs).model_dump_json()
    return notes, known


async def test_tokens_that_another_replica_got_count(linear: LinearApi) -> None:
    notes, known = await contested(linear, access_token="theirs")
    async with site_for(linear, notes=notes, mode="oauth") as site:
        linear.faults.add(answer({"access_token": "ours", "expires_in": 9}), operation=faults.TOKEN)
        token = await site.channel._workspaces.renewed(known.organization_id, used=TOKEN)
    assert token == "theirs"


async def test_tokens_survive_that_another_replica_learned_something(linear: LinearApi) -> None:
    notes, known = await contested(linear, team_keys=("NEW",))
    async with site_for(linear, notes=notes) as site:
        linear.faults.add(answer({"access_token": "ours", "expires_in": 9}), operation=faults.TOKEN)
        token = await site.channel._workspaces.renewed(known.organization_id, used=TOKEN)
        assert token == "ours"
        assert site.channel._workspaces.team_keys == {"NEW"}


@pytest.mark.parametrize("theirs", [{"access_token": "", "revoked": True}, {"client_id": "other"}])
async def test_an_installation_that_ends_meanwhile_has_ended(
    linear: LinearApi, theirs: dict[str, object]
) -> None:
    notes, known = await contested(linear, **theirs)
    async with site_for(linear, notes=notes) as site:
        linear.faults.add(answer({"access_token": "ours", "expires_in": 9}), operation=faults.TOKEN)
        with pytest.raises(AuthError):
            await site.channel._workspaces.renewed(known.organization_id, used=TOKEN)


async def test_a_session_that_another_replica_remembered_first_counts(
    site: Site, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix it")
    here = site.about(issue, f"issue:{issue.id}")
    name = f"linear:opened:{here.team}:{issue.id}"

    async with site_for(linear, notes=site.notes) as other:
        linear.faults.add(faults.held(), operation="agentSessionCreateOnIssue")
        async with asyncio.TaskGroup() as group:
            late = group.create_task(other.channel.post(here, CARD, key="k1"))
            await linear.until(lambda: linear.holding > 0)
            session = await site.channel._sessions.of(here)
            linear.release()
            await late
    assert site.notes.kept[name] == session
    assert len(linear.world.sessions) == 1
