"""Several workspaces: installed over our pages, with tokens that are kept, renewed and forgotten."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from integrations.channel import Conversation, Inbound, Notice
from integrations.errors import RejectedError
from integrations.slack.channel import SlackChannel
from integrations.slack.config import SlackConfig
from integrations.slack.workspaces import Installation, ManyWorkspaces
from integrations.testing_front import FakeFront
from integrations.testing_notes import MemoryNotes
from tests.contract.slack.conftest import OverHttp
from tests.contract.slack.serving import served
from tests.support.slack_api import CLIENT_SECRET, Fault, SlackApi
from tests.support.slack_payloads import SIGNING_SECRET, payload

HALF_A_DAY = 43_200


@dataclass(slots=True)
class Clock:
    at: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


@dataclass(slots=True, kw_only=True)
class Many:
    api: SlackApi
    config: SlackConfig
    notes: MemoryNotes
    clock: Clock
    workspaces: ManyWorkspaces
    channel: SlackChannel
    http: httpx.AsyncClient
    stored: list[Inbound]

    async def install(self, team: str, *, state: str | None = None) -> httpx.Response:
        """As a browser does it; over http, where its cookie would not go, so that goes by hand."""
        begun = await self.http.get("/slack/install")
        query = parse_qs(urlsplit(begun.headers["location"]).query)
        cookie = begun.headers["set-cookie"].partition(";")[0]
        return await self.http.get(
            "/slack/oauth_redirect",
            params={"code": team, "state": query["state"][0] if state is None else state},
            headers={"cookie": cookie},
        )

    def another(self) -> ManyWorkspaces:
        """The same of a second replica."""
        return ManyWorkspaces(self.config, self.notes, clock=self.clock)


@pytest.fixture
async def many(api: SlackApi) -> AsyncIterator[Many]:
    config = SlackConfig(
        client_id="1.2", client_secret=SecretStr(CLIENT_SECRET), teams=("T0ACME", "T0OTHER"),
        signing_secret=SecretStr(SIGNING_SECRET), api_url=api.url,
    )  # fmt: skip
    notes, clock, stored = MemoryNotes(), Clock(), list[Inbound]()
    workspaces = ManyWorkspaces(config, notes, clock=clock)
    channel = SlackChannel(config, front=FakeFront(), workspaces=workspaces)

    async def receive(inbound: Inbound) -> bool:
        stored.append(inbound)
        return True

    app, router = FastAPI(), channel.routes(receive)
    assert router is not None
    app.include_router(router)
    async with served(app) as url, httpx.AsyncClient(base_url=url) as http:
        yield Many(
            api=api, config=config, notes=notes, clock=clock, workspaces=workspaces,
            channel=channel, http=http, stored=stored,
        )  # fmt: skip
    await channel.close()


async def test_an_installed_workspace_is_heard_and_spoken_to(many: Many) -> None:
    assert (await many.install("T0ACME")).status_code == 200
    assert (await OverHttp(http=many.http).event(payload("app_mention"))).ok
    root = many.api.say("C0WEB", "hi", user="U0DANA")
    where = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=root)
    await many.channel.post(where, Notice(text="Hello"), key="k")

    assert [inbound.conversation.team for inbound in many.stored] == ["T0ACME"]
    assert many.api.used[-1].startswith("xoxe.xoxb-T0ACME")


async def test_each_workspace_has_a_token_of_its_own(many: Many) -> None:
    await many.install("T0ACME")
    await many.install("T0OTHER")
    for team in ("T0ACME", "T0OTHER"):
        root = many.api.say("C0WEB", "hi", user="U0DANA")
        where = Conversation(channel="slack", team=team, place="C0WEB", thread=root)
        await many.channel.post(where, Notice(text="Hello"), key=team)
        assert many.api.issued[many.api.used[-1]] == team
    assert len(await many.workspaces.clients()) == 2


async def test_a_workspace_that_is_not_named_is_not_let_in(many: Many) -> None:
    answer = await many.install("T0EVIL")
    assert answer.status_code == 403
    assert many.notes.kept == {}


@pytest.mark.parametrize("state", ["", "1.2", "x", "1800000000.00"])
async def test_an_installation_that_did_not_begin_here_is_refused(many: Many, state: str) -> None:
    assert (await many.install("T0ACME", state=state)).status_code == 400
    assert many.notes.kept == {}


async def test_a_state_without_its_browser_is_refused(many: Many) -> None:
    begun = await many.http.get("/slack/install")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    answer = await many.http.get("/slack/oauth_redirect", params={"code": "T0ACME", "state": state})
    assert answer.status_code == 400


async def test_a_code_that_slack_does_not_take_installs_nothing(many: Many) -> None:
    assert (await many.install("nonsense")).status_code == 502
    assert (await many.http.get("/slack/oauth_redirect?error=access_denied")).status_code == 400
    assert many.notes.kept == {}


async def test_deliveries_of_a_strange_workspace_are_dropped(many: Many) -> None:
    assert (await OverHttp(http=many.http).event(payload("app_mention"))).ok
    assert many.stored == []


@pytest.mark.parametrize("name", ["app_uninstalled", "tokens_revoked"])
async def test_what_is_removed_is_forgotten(many: Many, name: str) -> None:
    await many.install("T0ACME")
    await OverHttp(http=many.http).event(payload(name))

    assert [inbound.happening for inbound in many.stored] == ["gone"]
    assert many.notes.kept == {}
    with pytest.raises(RejectedError):
        await many.workspaces.client("T0ACME")


async def test_a_token_is_renewed_before_it_ends(many: Many) -> None:
    await many.install("T0ACME")
    many.clock.at += HALF_A_DAY - 3600
    client = await many.workspaces.client("T0ACME")

    assert client.authorization == "Bearer xoxe.xoxb-T0ACME-2"
    kept = Installation.model_validate_json(many.notes.kept["slack:workspace:T0ACME"])
    assert (kept.token, kept.claimed_until) == ("xoxe.xoxb-T0ACME-2", 0)


async def test_of_two_replicas_one_renews_and_both_go_on(many: Many) -> None:
    await many.install("T0ACME")
    other = many.another()
    await other.client("T0ACME")
    many.clock.at += HALF_A_DAY - 3600
    await asyncio.gather(many.workspaces.client("T0ACME"), other.client("T0ACME"))
    clients = await asyncio.gather(many.workspaces.client("T0ACME"), other.client("T0ACME"))
    await other.close()

    assert len(many.api.issued) == 2
    assert {client.authorization for client in clients} == {"Bearer xoxe.xoxb-T0ACME-2"}


async def test_where_a_token_can_t_be_renewed_the_old_one_does(many: Many) -> None:
    await many.install("T0ACME")
    many.clock.at += HALF_A_DAY - 3600
    many.api.fail("oauth.v2.access", Fault(status=503))
    client = await many.workspaces.client("T0ACME")
    assert client.authorization.endswith("-1")
    many.clock.at += 61
    client = await many.workspaces.client("T0ACME")
    assert client.authorization.endswith("-2")


async def test_without_a_workspace_named_the_only_one_is_meant(many: Many) -> None:
    await many.install("T0ACME")
    assert await many.workspaces.client("") is await many.workspaces.client("T0ACME")
    await many.install("T0OTHER")
    with pytest.raises(RejectedError):
        await many.workspaces.client("")


async def test_tokens_that_do_not_rotate_are_never_renewed(many: Many) -> None:
    many.api.rotates = False
    await many.install("T0ACME")
    many.clock.at += 10**9
    await many.workspaces.client("T0ACME")
    assert len(many.api.issued) == 1


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "set bot_token"),
        ({"bot_token": "xoxb-1", "client_id": "1"}, "not both"),
        ({"signing_secret": "1"}, "one of these"),
        ({"client_id": "1"}, "client_secret"),
        ({"client_id": "1", "client_secret": "x"}, "teams"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, str], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        SlackConfig.model_validate({"signing_secret": "s", **settings})
