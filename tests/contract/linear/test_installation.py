"""How the app comes into workspaces, and how its tokens live."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from bot.store.errors import StoreUnavailableError
from integrations.channel import Notice
from integrations.errors import AuthError, RejectedError, UnavailableError
from integrations.linear.oauth import install_ticket, is_ticket
from tests.contract.linear.site import Site, config, listening, site_for
from tests.support.installation import until
from tests.support.linear import errors, faults
from tests.support.linear.oauth import API_KEY
from tests.support.linear.server import LinearApi
from tests.support.ports import free_port


@pytest.fixture
async def fresh(linear: LinearApi) -> AsyncIterator[Site]:
    """Not installed; its pages are where its settings say."""
    port = free_port()
    async with (
        site_for(linear, public_url=f"http://127.0.0.1:{port}") as made,
        listening(made, port=port) as serving,
    ):
        yield serving


def link(site: Site) -> str:
    ticket = install_ticket(config(site.linear), now=site.clock())
    return f"{site.url}/linear/oauth/authorize?ticket={ticket}"


async def opened(url: str) -> httpx.Response:
    """As a browser does, over Linear's page and back."""
    async with httpx.AsyncClient(follow_redirects=True) as browser:
        return await browser.get(url)


async def test_an_admin_installs_by_the_link(fresh: Site) -> None:
    page = await opened(link(fresh))
    assert page.status_code == 200
    assert "installed in Acme" in page.text
    assert "ENG, OPS" in page.text
    assert await fresh.channel.check() == []
    assert not any(name.startswith("linear:oauth:") for name in fresh.notes.kept)

    session = await fresh.delegated()
    await fresh.channel.post(fresh.conversation(session), Notice(text="Hello"), key="k1")
    assert session.said() == ["Hello"]


async def test_consent_is_asked_for_the_app_and_no_more(fresh: Site) -> None:
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(link(fresh))
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert answer.status_code == 302
    assert asked["actor"] == ["app"]
    assert asked["scope"] == ["read,write,app:assignable,app:mentionable"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{fresh.url}/linear/oauth/callback"]


@pytest.mark.parametrize("ticket", ["", "1.0", "x", "9" * 12 + "." + "0" * 64])
async def test_only_who_has_the_settings_can_begin(fresh: Site, ticket: str) -> None:
    page = await opened(f"{fresh.url}/linear/oauth/authorize?ticket={ticket}")
    assert page.status_code == 403
    assert "errand linear setup" in page.text
    assert fresh.notes.kept == {}


async def test_a_ticket_is_good_for_an_hour(fresh: Site) -> None:
    ticket = install_ticket(config(fresh.linear), now=fresh.clock())
    later = fresh.clock() + timedelta(minutes=61)
    assert is_ticket(config(fresh.linear), ticket, now=fresh.clock())
    assert not is_ticket(config(fresh.linear), ticket, now=later)
    other = config(fresh.linear, client_secret="another")
    assert not is_ticket(other, ticket, now=fresh.clock())


async def test_a_consent_is_good_once(fresh: Site) -> None:
    page = await opened(link(fresh))
    again = await opened(str(page.url))
    assert again.status_code == 400
    assert "begin again" in again.text


async def test_a_consent_that_comes_too_late_is_none(fresh: Site) -> None:
    async with httpx.AsyncClient() as browser:
        there = await browser.get(link(fresh))
        back = await browser.get(there.headers["location"])
        fresh.clock.ahead = timedelta(minutes=16)
        page = await browser.get(back.headers["location"])
    assert page.status_code == 400
    assert await fresh.channel._workspaces.installed() == []
    await opened(link(fresh))
    assert not any(name.startswith("linear:oauth:") for name in fresh.notes.kept)


async def test_who_says_no_is_told_so(fresh: Site, linear: LinearApi) -> None:
    linear.oauth.denies = True
    page = await opened(link(fresh))
    assert page.status_code == 400
    assert "access_denied" in page.text


async def test_pages_show_nothing_of_others_as_markup(fresh: Site) -> None:
    page = await opened(f"{fresh.url}/linear/oauth/callback?error=<script>alert(1)</script>")
    assert "<script>" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_linear_away_in_the_middle_is_told(fresh: Site, linear: LinearApi) -> None:
    linear.faults.add(faults.server_error(503), operation=faults.TOKEN)
    page = await opened(link(fresh))
    assert page.status_code == 502
    assert "again in a moment" in page.text


async def test_nothing_installed_is_a_problem_with_a_way_out(fresh: Site) -> None:
    [problem] = await fresh.channel.check()
    assert "errand linear setup" in problem
    with pytest.raises(AuthError):
        await fresh.channel._workspaces.get(fresh.linear.world.organization.id)


# --- tokens


async def test_a_token_is_renewed_before_it_ends(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    linear.requests.clear()
    fresh.clock.ahead = linear.oauth.ahead = timedelta(hours=23, minutes=55)
    assert await fresh.channel.check() == []
    assert [request.names[0] for request in linear.requests] == [faults.TOKEN, "Who"]


async def test_a_token_that_is_refused_is_renewed_once(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    linear.oauth.expire()
    linear.requests.clear()
    assert await fresh.channel.check() == []
    assert [request.names[0] for request in linear.requests] == ["Who", faults.TOKEN, "Who"]


async def both(one: Site, other: Site) -> list[list[str]]:
    return list(await asyncio.gather(one.channel.check(), other.channel.check()))


async def test_replicas_share_what_one_of_them_got(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    async with site_for(linear, notes=fresh.notes) as other:
        assert await other.channel.check() == []
        linear.oauth.expire()
        assert await both(fresh, other) == [[], []]
        linear.oauth.ahead = timedelta(minutes=31)  # a repeated refresh would now be refused
        assert await both(fresh, other) == [[], []]


async def test_a_renewal_whose_answer_was_lost_is_repeated(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    linear.oauth.expire()
    linear.faults.add(faults.cut(effect=True), operation=faults.TOKEN)
    session = await fresh.delegated()
    with pytest.raises(UnavailableError):
        await fresh.channel.post(fresh.conversation(session), Notice(text="Hello"), key="k1")
    await fresh.channel.post(fresh.conversation(session), Notice(text="Hello"), key="k1")
    assert session.said() == ["Hello"]


async def test_a_workspace_that_takes_the_app_out_is_named_and_waits(
    fresh: Site, linear: LinearApi
) -> None:
    await opened(link(fresh))
    session = await fresh.delegated()
    await linear.people.revoke()

    last = fresh.inbounds[-1]
    assert (last.happening, last.conversation.team) == ("gone", linear.world.organization.id)
    assert not any("lin_" in text for text in fresh.notes.kept.values())
    [problem] = await fresh.channel.check()
    assert "Acme has taken the app out" in problem
    with pytest.raises(AuthError):
        await fresh.channel.post(fresh.conversation(session), Notice(text="Hello"), key="k1")

    await opened(link(fresh))
    assert await fresh.channel.check() == []
    await fresh.channel.post(fresh.conversation(session), Notice(text="Hello"), key="k1")


async def test_tokens_are_forgotten_only_once_it_is_stored_that_the_app_is_gone(
    fresh: Site, linear: LinearApi
) -> None:
    await opened(link(fresh))
    fresh.fails = StoreUnavailableError("database is locked")
    await linear.people.revoke()
    [told] = linear.webhooks.named("OAuthApp/revoked")
    assert told.answers[-1].status == 503
    fresh.fails = None
    assert (await linear.webhooks.send(told)).status == 200
    assert [inbound.happening for inbound in fresh.inbounds] == ["gone"]
    assert "taken the app out" in (await fresh.channel.check())[0]


async def test_another_replica_learns_of_it_when_linear_refuses(
    fresh: Site, linear: LinearApi
) -> None:
    await opened(link(fresh))
    async with site_for(linear, notes=fresh.notes) as other:
        assert await other.channel.check() == []
        await linear.people.revoke()
        [problem] = await other.channel.check()
        assert "taken the app out" in problem


async def test_a_refused_installation_says_what_to_do(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    linear.oauth.forget_all()
    [problem] = await fresh.channel.check()
    assert re.search("does not accept the app in Acme .* errand linear setup", problem)


async def test_linear_away_is_no_fault_of_the_credentials(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    linear.faults.add(faults.server_error(503), operation="Who")
    [problem] = await fresh.channel.check()
    assert "check the network" in problem


async def test_an_app_that_may_see_no_team_is_told(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    await linear.people.change_teams([])
    [problem] = await fresh.channel.check()
    assert "no team in Acme" in problem


async def test_teams_that_are_taken_away_are_known_at_once(heard: Site, linear: LinearApi) -> None:
    async with asyncio.TaskGroup() as group:
        listening_to = group.create_task(heard.channel.listen(heard.receive))
        await linear.until(lambda: linear.count("Who") == 1)
        assert heard.channel.item_in("see OPS-1") == "OPS-1"
        await linear.people.change_teams([linear.world.team])

        async def forgotten() -> bool:
            return heard.channel.item_in("see OPS-1") is None

        await until(forgotten, seconds=10, what="the team is forgotten")
        listening_to.cancel()


async def test_a_persons_token_is_not_the_apps(fresh: Site, linear: LinearApi) -> None:
    who = {"viewer.app": False}
    linear.faults.add(faults.Fault(alter=who), operation="Who")
    page = await opened(link(fresh))
    assert page.status_code == 400
    assert "are a person" in page.text
    assert API_KEY not in page.text


# --- client credentials


async def test_the_own_workspace_needs_no_link(linear: LinearApi) -> None:
    async with site_for(linear, mode="client_credentials") as site:
        assert await both(site, site) == [[], []]
        assert linear.count() == 3
        linear.oauth.expire()
        assert await site.channel.check() == []
        session = await site.delegated()
        await site.channel.post(site.conversation(session), Notice(text="Hello"), key="k1")
        async with listening(site):
            await linear.people.prompt(session, "more")
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{site.url}/linear/oauth/authorize")
    assert session.said()[:1] == ["Hello"]
    assert [inbound.text for inbound in site.inbounds] == ["more"]


async def test_the_own_workspace_comes_back_by_itself(linear: LinearApi) -> None:
    async with site_for(linear, mode="client_credentials") as site, listening(site):
        assert await site.channel.check() == []
        await linear.people.revoke()
        refused = faults.failed(errors.unauthenticated())
        linear.faults.add(refused, operation="Who")
        [problem] = await site.channel.check()
        assert "client credentials" in problem

        session = await site.delegated()
        await site.channel.post(site.conversation(session), Notice(text="Hello"), key="k1")
    assert session.said()[-1:] == ["Hello"]


async def test_wrong_client_credentials_say_what_to_do(linear: LinearApi) -> None:
    async with site_for(linear, mode="client_credentials", client_secret="wrong") as site:
        [problem] = await site.channel.check()
        assert "ERRAND_LINEAR__CLIENT_SECRET" in problem
        assert "wrong" not in problem


async def test_what_another_app_of_ours_kept_is_not_used(fresh: Site, linear: LinearApi) -> None:
    await opened(link(fresh))
    async with site_for(linear, notes=fresh.notes, client_id="another") as other:
        assert await other.channel._workspaces.all() == []
        where = fresh.conversation(await fresh.delegated())
        with pytest.raises(RejectedError):
            await other.channel.post(where, Notice(text="Hello"), key="k1")
