"""The stand-in grants, renews and revokes tokens as Linear does."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from gql.transport.exceptions import TransportQueryError

from tests.contract.linear.conftest import Asker
from tests.support.linear.faults import TOKEN as TOKEN_ENDPOINT
from tests.support.linear.faults import server_error
from tests.support.linear.oauth import API_KEY, CLIENT_ID, CLIENT_SECRET, SCOPES, challenge
from tests.support.linear.server import LinearApi

ME = "{ viewer { name } }"
BACK = "http://127.0.0.1:1/linear/callback"
VERIFIER = "a-verifier-that-is-long-enough-to-be-one-0123456789"
CLIENT = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def http(linear: LinearApi) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=linear.url, trust_env=False) as client:
        yield client


async def authorized(http: httpx.AsyncClient, **more: str) -> dict[str, str]:
    """What the browser brings back."""
    asked = {
        "client_id": CLIENT_ID, "redirect_uri": BACK, "response_type": "code", "scope": SCOPES,
        "actor": "app", "state": "s-1", **more,
    }  # fmt: skip
    answer = await http.get("/oauth/authorize", params=asked)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(BACK)
    return {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def token(
    http: httpx.AsyncClient, *, refused: int | None = None, **form: str
) -> dict[str, Any]:
    answer = await http.post("/oauth/token", data={**CLIENT, **form})
    assert answer.status_code == (refused or 200), answer.text
    body: dict[str, Any] = answer.json()
    return body


async def granted(http: httpx.AsyncClient) -> dict[str, Any]:
    code = (await authorized(http))["code"]
    return await token(http, grant_type="authorization_code", code=code, redirect_uri=BACK)


async def refreshed(
    http: httpx.AsyncClient, refresh: str, *, refused: int | None = None
) -> dict[str, Any]:
    return await token(http, refused=refused, grant_type="refresh_token", refresh_token=refresh)


async def unauthenticated(ask: Asker, access: str) -> dict[str, Any]:
    with pytest.raises(TransportQueryError) as raised:
        await ask(ME, token=access)
    [error] = raised.value.errors or []
    found: dict[str, Any] = error
    return found


async def test_an_installation_takes_a_code_and_a_day_of_access(
    http: httpx.AsyncClient, ask: Asker
) -> None:
    pkce = {"code_challenge": challenge(VERIFIER), "code_challenge_method": "S256"}
    back = await authorized(http, **pkce)
    assert back["state"] == "s-1"
    form: dict[str, Any] = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "redirect_uri": BACK,
    }
    body = await token(http, code_verifier=VERIFIER, **form)
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 86399)
    assert body["scope"] == "app:assignable app:mentionable read write"
    assert (await ask(ME, token=body["access_token"]))["viewer"] == {"name": "Errand"}
    assert (await token(http, refused=400, code_verifier=VERIFIER, **form))[
        "error"
    ] == "invalid_grant"


async def test_a_code_needs_the_verifier_that_was_announced(http: httpx.AsyncClient) -> None:
    pkce = {"code_challenge": challenge(VERIFIER), "code_challenge_method": "S256"}
    code = (await authorized(http, **pkce))["code"]
    form: dict[str, Any] = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    assert (await token(http, refused=400, code_verifier="other", **form))[
        "error"
    ] == "invalid_grant"


async def test_what_cannot_be_granted_comes_back_as_an_error(
    linear: LinearApi, http: httpx.AsyncClient
) -> None:
    assert (await authorized(http, scope="read,admin"))["error"] == "invalid_scope"
    assert (await authorized(http, code_challenge="x"))["error"] == "invalid_request"
    linear.oauth.denies = True
    assert (await authorized(http)) == {"error": "access_denied", "state": "s-1"}
    stranger = await http.get("/oauth/authorize", params={"client_id": "x", "redirect_uri": BACK})
    assert stranger.status_code == 400


async def test_a_refresh_token_rotates_and_a_repeated_refresh_gives_the_same_for_half_an_hour(
    linear: LinearApi, http: httpx.AsyncClient, ask: Asker
) -> None:
    first = await granted(http)
    second = await refreshed(http, first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]
    again = await refreshed(http, first["refresh_token"])
    assert (again["access_token"], again["refresh_token"]) == (
        second["access_token"],
        second["refresh_token"],
    )
    linear.oauth.ahead = timedelta(minutes=31)
    assert (await refreshed(http, first["refresh_token"], refused=400))["error"] == "invalid_grant"
    assert (await ask(ME, token=second["access_token"]))["viewer"]


async def test_an_expired_token_is_refused_and_can_be_renewed(
    linear: LinearApi, http: httpx.AsyncClient, ask: Asker
) -> None:
    body = await granted(http)
    linear.oauth.expire()
    error = await unauthenticated(ask, body["access_token"])
    assert error["message"] == "Authentication required, not authenticated"
    assert error["extensions"]["code"] == "AUTHENTICATION_ERROR"
    assert error["extensions"]["type"] == "authentication error"
    assert linear.requests[-1].status == 401
    renewed = await refreshed(http, body["refresh_token"])
    assert (await ask(ME, token=renewed["access_token"]))["viewer"]


async def test_tokens_expire_by_themselves(
    linear: LinearApi, http: httpx.AsyncClient, ask: Asker
) -> None:
    body = await granted(http)
    linear.oauth.ahead = timedelta(hours=24)
    await unauthenticated(ask, body["access_token"])


async def test_client_credentials_give_a_month_and_no_refresh_token(
    http: httpx.AsyncClient, ask: Asker
) -> None:
    body = await token(http, grant_type="client_credentials", scope="read,write")
    assert (body["expires_in"], "refresh_token" in body) == (2591999, False)
    beside = await token(http, grant_type="client_credentials", scope="read,write")
    for each in (body, beside):
        assert (await ask(ME, token=each["access_token"]))["viewer"]
    await token(http, grant_type="client_credentials", scope="read")
    await unauthenticated(ask, body["access_token"])


async def test_the_client_may_say_who_it_is_by_basic_authentication(
    http: httpx.AsyncClient,
) -> None:
    form = {"grant_type": "client_credentials", "scope": "read"}
    good = await http.post("/oauth/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET))
    bad = await http.post("/oauth/token", data=form, auth=(CLIENT_ID, "wrong"))
    assert (good.status_code, bad.status_code) == (200, 401)
    assert bad.json()["error"] == "invalid_client"


async def test_a_revoked_token_is_gone_and_so_is_its_refresh_token(
    http: httpx.AsyncClient, ask: Asker
) -> None:
    body = await granted(http)
    revoked = await http.post("/oauth/revoke", data={"token": body["access_token"]})
    assert revoked.status_code == 200
    await unauthenticated(ask, body["access_token"])
    await refreshed(http, body["refresh_token"], refused=400)
    assert (await http.post("/oauth/revoke", data={"token": "unknown"})).status_code == 400


async def test_a_revoked_installation_has_no_token_left(
    linear: LinearApi, http: httpx.AsyncClient, ask: Asker
) -> None:
    body = await granted(http)
    await linear.people.revoke()
    await unauthenticated(ask, body["access_token"])
    await refreshed(http, body["refresh_token"], refused=400)


async def test_a_key_goes_without_bearer(linear: LinearApi, http: httpx.AsyncClient) -> None:
    for sent, status in ((API_KEY, 200), (f"Bearer {API_KEY}", 401), ("", 401)):
        answer = await http.post("/graphql", json={"query": ME}, headers={"Authorization": sent})
        assert answer.status_code == status
    assert [r.authorization for r in linear.requests] == [API_KEY, f"Bearer {API_KEY}", ""]


async def test_the_token_endpoint_can_be_away(linear: LinearApi, http: httpx.AsyncClient) -> None:
    linear.faults.add(server_error(503), operation=TOKEN_ENDPOINT)
    answer = await http.post("/oauth/token", data={**CLIENT, "grant_type": "client_credentials"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert linear.count() == 0
