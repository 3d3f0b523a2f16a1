"""Without webhooks the same arrives, some seconds later; what they miss does too; with both, once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from integrations.channel import Inbound
from integrations.errors import AuthError
from integrations.linear.polling import Polling
from tests.contract.linear.site import PAGE, Site, site_for
from tests.support.installation import until
from tests.support.linear import faults
from tests.support.linear.server import LinearApi


@pytest.fixture
async def alone(linear: LinearApi) -> AsyncIterator[Site]:
    """No webhook tells it anything."""
    async with site_for(linear, webhook_secret=None) as made:
        await made.install()
        yield made


@pytest.fixture
async def asking(site: Site) -> Polling:
    """It has asked once: there was nothing."""
    polling = site.channel.polling(site.receive)
    await polling.round()
    return polling


async def test_a_delegation_is_found(site: Site, asking: Polling) -> None:
    session = await site.delegated("Fix it", description="Soon")
    await asking.round()
    [inbound] = site.inbounds
    assert inbound.semantic_key == f"session:{session.id}"
    complete = await site.channel.complete(inbound)
    assert complete.text == "Fix it\n\nSoon"
    assert complete.author == "linear:dana@acme.example"
    assert session.said("thought")


async def test_mentions_prompts_and_stops_are_found_in_order(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    session = await linear.people.mention(linear.world.issue("Fix it"), "look here")
    await linear.people.prompt(session, "and there")
    await linear.people.stop(session, by=linear.world.lee)
    await asking.round()
    assert [one.text for one in site.inbounds] == ["look here", "and there", "stop"]
    assert site.inbounds[-1].author == "linear:lee@acme.example"


@pytest.mark.parametrize(
    ("fault", "least"), [(faults.server_error, 0), (lambda: faults.rate_limited(90), 80)]
)
async def test_linear_is_left_alone_for_as_long_as_it_asks(
    asking: Polling, linear: LinearApi, fault: Callable[[], faults.Fault], least: float
) -> None:
    linear.faults.add(fault(), operation="SessionsSince")
    assert least <= await asking.round() <= least + 10
    assert await asking.round() == 0


async def test_whether_our_credential_is_taken_is_told(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    said: list[bool | None] = [site.channel.connected]
    linear.faults.add(faults.server_error(401), operation="SessionsSince")
    linear.faults.add(faults.server_error(401), operation="oauth/token")
    for _ in range(2):
        await asking.round()
        said.append(site.channel.connected)
    assert said == [True, False, True]


async def test_pages_that_lead_in_a_circle_are_given_up(asking: Polling, linear: LinearApi) -> None:
    page = {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": "x"}}
    linear.faults.add(faults.unknown("agentSessions", page), operation="SessionsSince", times=3)
    async with asyncio.timeout(10):
        await asking.round()
    assert len(linear.faults.waiting) == 1


async def test_what_came_between_the_installation_and_the_first_question_is_found(
    site: Site,
) -> None:
    await site.delegated()
    site.clock.ahead = timedelta(hours=1)
    await site.channel.polling(site.receive).round()
    assert len(site.inbounds) == 1


async def test_what_the_store_has_forgotten_is_not_found_again(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    """Where nothing else is said, the question moves on all the same, before keys are thrown away."""
    await site.delegated()
    await asking.round()
    site.clock.ahead = timedelta(hours=12)
    await asking.round()
    async with site_for(linear, notes=site.notes) as other:
        await other.channel.polling(other.receive).round()
    assert other.inbounds == []


async def test_what_was_found_is_not_found_again(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    await site.delegated()
    for _ in range(3):
        await asking.round()
    async with site_for(linear, notes=site.notes) as other:
        await other.channel.polling(site.receive).round()
    assert len(site.inbounds) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_by_webhook_and_by_asking_it_is_one(
    heard: Site, linear: LinearApi, *, late: bool
) -> None:
    polling = heard.channel.polling(heard.receive)
    await polling.round()
    linear.webhooks.url = None if late else linear.webhooks.url
    session = await heard.delegated()
    await linear.people.prompt(session, "more")
    await polling.round()
    assert len(heard.inbounds) == 2


async def test_what_webhooks_have_told_as_taken_back_is_not_told_again(
    heard: Site, linear: LinearApi
) -> None:
    """A second word of it would be a second stop, which keeps nothing."""
    polling = heard.channel.polling(heard.receive)
    session = await heard.delegated()
    await linear.people.unassign(session.issue)
    await polling.round()
    await polling.round()
    assert [one.happening for one in heard.inbounds] == ["said", "withdrawn"]


async def test_a_session_that_can_not_be_read_does_not_spoil_the_others(
    site: Site, asking: Polling
) -> None:
    await site.delegated("before")
    broken = await site.delegated("broken")
    broken.id = "not/an id"
    await site.delegated("after")
    unknown = await site.delegated("unknown")
    unknown.issue.id = "no/id"
    await asking.round()
    assert [one.title for one in site.inbounds] == ["before", "after"]


async def test_all_of_a_long_outage_is_found(site: Site, asking: Polling) -> None:
    titles = [f"Ticket {number}" for number in range(1010)]
    for title in titles:
        await site.delegated(title)
    await asking.round()
    assert [one.title for one in site.inbounds] == titles


async def test_much_that_was_said_in_one_session_is_found(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    session = await site.delegated()
    words = [f"word {number}" for number in range(50)]
    for word in words:
        await linear.people.prompt(session, word)
    await asking.round()
    assert [one.text for one in site.inbounds[1:]] == words


async def test_what_was_not_stored_is_found_again(site: Site, asking: Polling) -> None:
    session = await site.delegated()
    site.fails = AuthError("store", "away")
    await asking.round()
    assert site.inbounds == []
    site.fails = None
    await asking.round()
    assert [one.semantic_key for one in site.inbounds] == [f"session:{session.id}"]


async def test_linear_away_is_borne_and_nothing_is_missed(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    linear.faults.add(faults.server_error(503), times=2)
    await site.delegated()
    await asking.round()
    await asking.round()
    await asking.round()
    assert len(site.inbounds) == 1


async def test_more_than_a_page_is_read_to_its_end(site: Site, asking: Polling) -> None:
    for number in range(60):
        await site.delegated(f"Ticket {number}")
    await asking.round()
    assert [one.title for one in site.inbounds] == [f"Ticket {n}" for n in range(60)]


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_that_is_wrong_hides_nothing(site: Site, minutes: int) -> None:
    polling = site.channel.polling(site.receive)
    await site.delegated("First")
    await polling.round()
    site.clock.ahead = timedelta(minutes=minutes)
    await site.delegated("Second")
    await polling.round()
    await polling.round()
    assert [one.title for one in site.inbounds] == ["First", "Second"]


async def test_what_was_there_before_is_left_alone(site: Site, linear: LinearApi) -> None:
    await site.delegated()
    for session in linear.world.sessions:
        session.created_at = session.updated_at = site.clock() - timedelta(hours=1)
    await site.channel.polling(site.receive).round()
    assert site.inbounds == []


async def test_other_agents_and_sessions_of_ours_are_no_requests(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    session = await site.delegated()
    session.app_user = linear.world.rival
    session.issue.delegate = linear.world.rival
    issue = linear.world.issue("Asked for in Slack")
    team = linear.world.organization.id
    await site.channel._sessions.begin(team, issue.id, f"{PAGE}/tasks/01J?key=k")
    await asking.round()
    for inbound in site.inbounds:
        assert (await site.channel.complete(inbound)).text == ""
    assert len(site.inbounds) == 1


@pytest.mark.parametrize("act", ["unassign", "cancel", "complete"])
async def test_a_ticket_that_is_taken_back_or_closed_is_withdrawn(
    alone: Site, linear: LinearApi, act: str
) -> None:
    polling = alone.channel.polling(alone.receive)
    session = await alone.delegated()
    await polling.round()
    await getattr(linear.people, act)(session.issue)
    for _ in range(2):
        await polling.round()
    [_, withdrawn] = alone.inbounds
    assert withdrawn.happening == "withdrawn"
    assert withdrawn.conversation == alone.conversation(session)
    assert await alone.channel.complete(withdrawn) == withdrawn


async def test_a_ticket_whose_work_has_ended_is_not_withdrawn(
    alone: Site, linear: LinearApi
) -> None:
    session = await alone.delegated()
    session.status = "complete"
    await linear.people.complete(session.issue)
    await alone.channel.polling(alone.receive).round()
    assert [one.happening for one in alone.inbounds] == ["said"]


async def test_a_ticket_handed_over_without_a_session_is_found_after_a_while(
    site: Site, asking: Polling, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix it", labels=["backend"])
    linear.world.change(issue, {"delegate": linear.world.app}, by=linear.world.dana)
    await asking.round()
    assert site.inbounds == []

    site.clock.ahead = timedelta(seconds=90)
    await asking.round()
    complete = await site.channel.complete(site.inbounds[0])
    assert complete.conversation == site.about(issue, f"issue:{issue.id}")
    assert (complete.author, complete.addressed) == ("linear:automation", True)
    assert complete.topics == ("linear:label:backend",)


async def test_it_begins_at_once(alone: Site) -> None:
    await alone.delegated()
    await listened(alone, lambda: bool(alone.inbounds))
    assert len(alone.inbounds) == 1


@pytest.mark.usefixtures("asking")
async def test_what_webhooks_missed_while_we_were_off_is_found_at_the_start(
    site: Site, linear: LinearApi
) -> None:
    session = await site.delegated("Missed")
    linear.world.change(linear.world.issue("Handed over"), {"delegate": linear.world.app}, by=None)
    async with site_for(linear, notes=site.notes) as later:
        later.clock.ahead = timedelta(hours=9)
        await listened(later, lambda: len(later.inbounds) == 2)
        assert [one.title for one in later.inbounds] == ["Missed", "Handed over"]
        assert later.inbounds[0].semantic_key == f"session:{session.id}"


async def test_where_polling_is_off_nobody_asks_for_news(linear: LinearApi) -> None:
    async with site_for(linear, polling=False) as quiet:
        await quiet.install()
        before = linear.count()
        await listened(quiet, lambda: linear.count("Who") > 1)
        assert linear.count() == before + 1


async def test_new_teams_and_another_name_are_learned(site: Site, linear: LinearApi) -> None:
    linear.world.app.display_name = "robot"
    linear.world.teams.append(linear.world._new_team("NEW", "New"))
    linear.world.app_teams = linear.world.teams
    assert site.channel.item_in("NEW-1") is None
    await listened(site, lambda: site.channel.item_in("NEW-1") is not None)

    session = await linear.people.mention(linear.world.issue("Fix it"), "look here")
    [inbound] = await asked(site)
    assert (await site.channel.complete(inbound)).text == "look here"
    assert session.said("thought")


async def asked(site: Site) -> list[Inbound]:
    await site.channel.polling(site.receive).round()
    return site.inbounds


async def listened(site: Site, true: Callable[[], bool]) -> None:
    """Let it listen until something is so."""

    async def look() -> bool:
        return true()

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(site.channel.listen(site.receive))
        await until(look, seconds=10, what="what was waited for")
        listening.cancel()
