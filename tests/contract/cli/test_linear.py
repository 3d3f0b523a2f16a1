"""`errand linear setup`: what to make, what to set, and whether it works."""

import asyncio

import pytest
from pydantic import SecretStr

from bot.settings import HttpSettings, Settings, vault_key
from bot.store.engine import Store
from bot.vault import Vault
from integrations.linear.channel import LinearChannel
from integrations.linear.config import LinearConfig
from integrations.linear.oauth import Granted
from tests.contract.cli.conftest import Place
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET, TOKEN
from tests.support.linear.server import LinearApi, linear_api

pytestmark = pytest.mark.timeout(120)


def settings_for(api: LinearApi, **more: str) -> dict[str, str]:
    known = {
        "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET, "API_URL": api.url,
        "AUTHORIZE_URL": f"{api.url}/oauth/authorize",
    }  # fmt: skip
    return {f"ERRAND_LINEAR__{name}": value for name, value in (known | more).items()}


async def run(place: Place, *words: str, **settings: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(lambda: place.errand(*words, **settings))
    return done.returncode, done.stdout, done.stderr


def test_without_settings_it_says_what_to_make(place: Place) -> None:
    done = place.errand("linear", "setup")
    assert done.returncode == 0
    assert f"http://127.0.0.1:{place.port}/linear/oauth/callback" in done.stdout
    assert "ERRAND_LINEAR__CLIENT_SECRET=" in done.stdout


async def test_with_settings_it_gives_the_link_and_says_what_is_missing(place: Place) -> None:
    async with linear_api() as api:
        settings = settings_for(api)
        code, said, wrong = await run(place, "linear", "setup", **settings)
        assert (code, "errand db upgrade" in wrong) == (1, True)
        await run(place, "db", "upgrade", **settings)
        code, said, wrong = await run(place, "linear", "setup", **settings)
    assert code == 1
    assert "/linear/oauth/authorize?ticket=" in said
    assert "installed nowhere" in wrong
    assert CLIENT_SECRET not in said + wrong


async def test_once_it_is_installed_a_real_call_proves_it(place: Place) -> None:
    async with linear_api() as api:
        settings = settings_for(api)
        await run(place, "db", "upgrade", **settings)
        await install(place, api)
        code, said, wrong = await run(place, "linear", "setup", **settings)
        assert (code, wrong) == (0, "")
        assert "Linear answers" in said
        _, told, _ = await run(place, "doctor", "serve", **settings)
    assert "linear" in told
    assert "accepts our credentials" in told


async def install(place: Place, api: LinearApi) -> None:
    """As an admin who has opened the link."""
    ours = Settings(data_dir=place.data, http=HttpSettings(port=place.port))
    store = Store(ours.database)
    config = LinearConfig(
        client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET), api_url=api.url
    )
    notes = Vault(store, vault_key(ours))
    channel = LinearChannel(config, notes=notes, public_url=ours.public_url)
    await channel._workspaces.install(Granted(access_token=TOKEN, expires_in=80_000))
    await channel.close()
    await store.close()


async def test_client_credentials_need_no_link(place: Place) -> None:
    async with linear_api() as api:
        settings = settings_for(api, MODE="client_credentials")
        await run(place, "db", "upgrade", **settings)
        code, said, wrong = await run(place, "linear", "setup", **settings)
    assert (code, wrong) == (0, "")
    assert "ticket=" not in said
    assert "Linear answers" in said


def test_an_app_that_could_hear_nothing_is_told_what_to_set(place: Place) -> None:
    done = place.errand(
        "linear", "setup",
        ERRAND_LINEAR__CLIENT_ID="c", ERRAND_LINEAR__CLIENT_SECRET="s",
        ERRAND_LINEAR__POLLING="false",
    )  # fmt: skip
    assert done.returncode == 4
    assert "set webhook_secret, or polling=true" in done.stderr
