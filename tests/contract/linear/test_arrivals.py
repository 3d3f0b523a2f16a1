"""What people do in Linear arrives as it was meant, once, and is acknowledged when it is stored."""

from datetime import timedelta

import httpx
import pytest

from bot.store.errors import StoreError, StoreUnavailableError
from integrations.channel import Inbound, Mark, Notice
from tests.contract.linear.site import PAGE, Site
from tests.support.linear.server import LinearApi


async def whole(site: Site) -> Inbound:
    return await site.channel.complete(site.inbounds[-1])


async def test_a_delegated_ticket_is_a_request(heard: Site, linear: LinearApi) -> None:
    world = linear.world
    world.guidance = [("Write tests.", None), ("Use uv.", world.team)]
    parent = world.issue("The epic")
    issue = world.issue(
        "Fix the login", description="It is flaky.", labels=["backend", "bug"], project="Web",
        parent=parent,
    )  # fmt: skip
    issue.priority = 2
    world.issue("A part", parent=issue)
    world.comment(issue, "I saw it too", user=world.lee)
    await linear.people.block(issue, world.issue("First this"))
    session = await linear.people.delegate(issue)

    [inbound] = heard.inbounds
    assert inbound.partial
    assert inbound.addressed
    assert inbound.guidance == "Use uv.\n\nWrite tests."
    assert "<title>Fix the login</title>" in inbound.context

    complete = await whole(heard)
    assert complete.conversation == heard.conversation(session)
    assert complete.conversation.where == "linear:ENG"
    assert complete.semantic_key == f"session:{session.id}"
    assert complete.message_id == issue.id
    assert complete.item == inbound.item == "ENG-2"
    assert (complete.author, complete.author_name) == ("linear:dana@acme.example", "Dana")
    assert complete.title == "Fix the login"
    assert complete.text == "Fix the login\n\nIt is flaky."
    assert complete.topics == (
        "linear:label:backend",
        "linear:label:bug",
        "linear:project:Web",
    )
    assert complete.branch == issue.branch_name
    assert complete.priority == 2
    assert complete.waits_for == ("ENG-4",)
    assert "Part of ENG-1" in complete.context
    assert "ENG-3" in complete.context
    assert "I saw it too" in complete.context
    assert not complete.partial


async def test_a_mention_is_what_was_said_and_the_ticket_is_around_it(
    heard: Site, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix the login", description="It is flaky.")
    await linear.people.mention(issue, "please look at tests/login.py", by=linear.world.lee)

    complete = await whole(heard)
    assert complete.text == "please look at tests/login.py"
    assert complete.title == "Fix the login"
    assert complete.author == "linear:lee@acme.example"
    assert "It is flaky." in complete.context


async def test_a_mention_in_a_thread_is_the_answer_and_not_its_root(
    heard: Site, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix the login")
    root = linear.world.comment(issue, "What do we do here?", user=linear.world.dana)
    await linear.people.mention(issue, "do what Dana asks", by=linear.world.lee, thread=root)

    complete = await whole(heard)
    assert complete.text == "do what Dana asks"
    assert "What do we do here?" in complete.context


async def test_a_single_word_to_the_app_stays_a_word(heard: Site, linear: LinearApi) -> None:
    await linear.people.mention(linear.world.issue("Fix the login"), "help")
    complete = await whole(heard)
    assert (complete.text, complete.title) == ("help", "")


async def test_people_see_life_before_anything_is_asked(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await whole(heard)
    await whole(heard)
    await heard.channel.mark(heard.conversation(session), session.issue.id, Mark.SEEN, present=True)

    asked = [request.names[0] for request in linear.requests]
    assert asked[:2] == ["CreateActivity", "SessionRequest"]
    assert len(session.said("thought")) == 1


async def test_an_automation_asks_in_nobodys_name(heard: Site, linear: LinearApi) -> None:
    session = await linear.people.delegate(linear.world.issue("Fix it"), automation=True)
    complete = await whole(heard)
    assert complete.author == "linear:automation"
    assert complete.text == "Fix it"
    assert session.said("thought")


@pytest.mark.parametrize("tells", [True, False])
async def test_a_session_of_ours_is_no_request(
    heard: Site, linear: LinearApi, *, tells: bool
) -> None:
    linear.world.tells_own_sessions = tells
    issue = linear.world.issue("Asked for in Slack")
    team = linear.world.organization.id
    await heard.channel._sessions.begin(team, issue.id, f"{PAGE}/tasks/01J?key=k")
    await linear.webhooks.settled()
    for inbound in heard.inbounds:
        complete = await heard.channel.complete(inbound)
        assert (complete.text, complete.addressed, complete.partial) == ("", False, False)
    assert len(heard.inbounds) == tells
    assert linear.world.sessions[0].said() == []


async def test_what_is_said_in_a_session_is_an_answer(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await linear.people.prompt(session, "@errand use pytest", by=linear.world.lee)

    inbound = heard.inbounds[-1]
    assert inbound.conversation == heard.conversation(session)
    assert inbound.text == "use pytest"
    assert inbound.author == "linear:lee@acme.example"
    assert inbound.semantic_key == f"activity:{inbound.message_id}"
    assert not inbound.partial


async def test_the_stop_button_is_a_word(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await linear.people.stop(session)
    assert heard.inbounds[-1].text == "stop"


@pytest.mark.parametrize("emoji", ["octagonal_sign", "stop_sign", "🛑"])
async def test_a_stop_sign_on_the_ticket_is_a_word_too(
    heard: Site, linear: LinearApi, emoji: str
) -> None:
    session = await heard.delegated()
    await linear.people.react(session.issue, emoji)
    complete = await whole(heard)
    assert (complete.text, complete.conversation) == ("stop", heard.conversation(session))
    assert complete.addressed


async def test_other_reactions_are_ignored(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await linear.people.react(session.issue, "eyes")
    assert len(heard.inbounds) == 1


async def test_a_ticket_that_is_taken_back_is_withdrawn(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await linear.people.unassign(session.issue, by=linear.world.lee)
    complete = await whole(heard)
    assert complete.happening == "withdrawn"
    assert complete.conversation == heard.conversation(session)
    assert complete.author == "linear:lee@acme.example"


@pytest.mark.parametrize("state", ["completed", "canceled"])
async def test_a_ticket_that_is_closed_is_withdrawn(
    heard: Site, linear: LinearApi, state: str
) -> None:
    session = await heard.delegated()
    await linear.people.move(session.issue, state)
    complete = await heard.channel.complete(
        next(one for one in heard.inbounds if one.happening == "withdrawn")
    )
    assert complete.happening == "withdrawn"
    assert complete.conversation == heard.conversation(session)


async def test_a_ticket_that_moves_on_is_not_withdrawn(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await linear.people.move(session.issue, "In Review")
    moved = next(one for one in heard.inbounds if one.happening == "withdrawn")
    complete = await heard.channel.complete(moved)
    assert (complete.happening, complete.addressed, complete.text) == ("said", False, "")


async def test_a_label_that_is_set_may_be_a_request(heard: Site, linear: LinearApi) -> None:
    issue = linear.world.issue("Fix it", description="Soon", labels=["bug"])
    await linear.people.add_label(issue, "errand", by=linear.world.lee)

    complete = await whole(heard)
    assert complete.happening == "triggered"
    assert not complete.addressed
    assert complete.topics == ("linear:label:errand",)
    assert complete.conversation == heard.about(issue, f"issue:{issue.id}")
    assert complete.text == "Fix it\n\nSoon"
    assert complete.author == "linear:lee@acme.example"
    assert linear.world.sessions == []


async def test_a_state_that_is_set_may_be_a_request(heard: Site, linear: LinearApi) -> None:
    await linear.people.move(linear.world.issue("Fix it"), "In Progress")
    assert heard.inbounds[-1].topics == ("linear:state:In Progress",)


async def test_what_we_change_ourselves_is_no_request(heard: Site, linear: LinearApi) -> None:
    session = await heard.delegated()
    await heard.channel.mark(heard.conversation(session), session.issue.id, Mark.SEEN, present=True)
    await linear.webhooks.settled()
    assert session.issue.state.type == "started"
    assert [inbound.semantic_key for inbound in heard.inbounds] == [f"session:{session.id}"]


async def test_what_is_said_in_a_session_that_we_began_belongs_to_its_ticket(
    heard: Site, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix it")
    await linear.people.add_label(issue, "errand")
    here = heard.about(issue, f"issue:{issue.id}")
    await heard.channel.post(here, Notice(text="Refused"), key="k1")
    [session] = linear.world.sessions

    await linear.people.prompt(session, "why?")
    assert heard.inbounds[-1].conversation == here


@pytest.mark.parametrize("act", ["comment", "edit"])
async def test_what_concerns_nobody_is_fine(heard: Site, linear: LinearApi, act: str) -> None:
    session = await heard.delegated()
    await (
        linear.people.comment(session.issue, "hm")
        if act == "comment"
        else linear.people.edit(session.issue, title="New")
    )
    assert linear.webhooks.deliveries[-1].delivered
    assert len(heard.inbounds) == 1


async def test_the_same_delivery_twice_is_one_request(heard: Site, linear: LinearApi) -> None:
    await heard.delegated()
    for delivery in list(linear.webhooks.deliveries):
        assert (await linear.webhooks.send(delivery)).status == 200
    assert len(heard.inbounds) == 1


async def test_it_is_acknowledged_only_when_it_is_stored(heard: Site, linear: LinearApi) -> None:
    heard.fails = StoreUnavailableError("database is locked")
    await heard.delegated()
    created = linear.webhooks.named("AgentSessionEvent/created")[0]
    assert isinstance(heard.fails, StoreError)
    assert created.answers[-1].status == 503

    heard.fails = None
    assert (await linear.webhooks.send(created)).status == 200
    assert len(heard.inbounds) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [({"secret": "wrong"}, 401), ({"seconds": -61}, 401), ({"seconds": 61}, 401), ({}, 200)],
)
async def test_only_what_linear_signed_just_now_is_read(
    heard: Site, linear: LinearApi, sent: dict[str, object], status: int
) -> None:
    await heard.delegated()
    heard.inbounds.clear()
    created = linear.webhooks.named("AgentSessionEvent/created")[0]
    at = heard.clock() + timedelta(seconds=float(str(sent.get("seconds", 0))))
    secret = str(sent["secret"]) if "secret" in sent else None
    answer = await linear.webhooks.send(created, at=at.timestamp(), secret=secret)
    assert answer.status == status
    assert len(heard.inbounds) == (status == 200)


async def test_a_body_without_end_is_not_read(heard: Site) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{heard.url}/linear/webhook", content=b"x" * (5 * 2**20 + 1))
    assert answer.status_code == 413


async def test_a_shape_that_is_not_known_is_told(heard: Site, linear: LinearApi) -> None:
    await heard.delegated()
    created = linear.webhooks.named("AgentSessionEvent/created")[0]
    del created.body["agentSession"]["id"]
    assert (await linear.webhooks.send(created)).status == 400


async def test_another_workspace_is_none_of_ours(heard: Site, linear: LinearApi) -> None:
    await heard.delegated()
    heard.inbounds.clear()
    created = linear.webhooks.named("AgentSessionEvent/created")[0]
    created.body["organizationId"] = "00000000-0000-4000-8000-000000000000"
    assert (await linear.webhooks.send(created)).status == 200
    assert heard.inbounds == []
