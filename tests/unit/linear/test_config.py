from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from bot.settings import Settings, load_settings
from integrations.linear import guide
from integrations.linear.config import EVENTS, SCOPES, LinearConfig
from integrations.linear.ids import is_id, made_from
from integrations.linear.oauth import install_ticket, is_ticket

PAGE = (Path(__file__).parents[3] / "docs" / "channels" / "linear.md").read_text()
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def config(**more: Any) -> LinearConfig:
    known: dict[str, Any] = {"client_id": "c1", "client_secret": SecretStr("s3cret")}
    return LinearConfig(**(known | more))


def test_the_docs_give_a_reason_for_every_permission() -> None:
    for name, reason in SCOPES.items():
        assert f"| `{name}` | {reason} |" in PAGE
    for name, reason in EVENTS.items():
        assert f"| {name} | {reason} |" in PAGE


def test_an_app_that_could_hear_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"webhook_secret, or polling=true"):
        config(polling=False)


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, 30),
        ({"webhook_secret": "w"}, 300),
        ({"webhook_secret": "w", "polling": True}, 30),
        ({"webhook_secret": "w", "polling": False}, None),
        ({"polling": 60}, 60),
        ({"polling": "60"}, 60),
        ({"polling": "true"}, 30),
    ],
)
def test_linear_is_asked_for_what_it_can_not_tell_or_could_not(
    more: dict[str, Any], seconds: float | None
) -> None:
    assert config(**more).poll_seconds == seconds


@pytest.mark.parametrize(
    "more",
    [{"polling": 2}, {"polling": "often"}, {"mode": "pat"}, {"api_url": "http://evil.example"},
     {"authorize_url": "https://u@linear.app"}, {"client_id": ""}, {"repository_host": "a/b"},
     {"token": "x"}],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_meant_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**more)


def test_the_settings_have_a_place_for_it() -> None:
    given = {"client_id": "c1", "client_secret": "s", "polling": "45", "mode": "client_credentials"}
    settings: Settings = load_settings({}, linear=given)
    assert settings.linear is not None
    assert (settings.linear.poll_seconds, settings.linear.mode) == (45, "client_credentials")


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(config(webhook_secret=SecretStr("s3cret")))


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("mode", ["oauth", "client_credentials"])
def test_the_guide_says_what_to_make_and_shows_no_secret(mode: str, *, hooks: bool) -> None:
    made = config(mode=mode, webhook_secret=SecretStr("s3cret") if hooks else None)
    lines = [
        *guide.create(made, public_url="https://e.example"),
        *guide.settings(made),
        *guide.install(made, public_url="https://e.example", now=NOW),
    ]
    text = "\n".join(lines)
    assert "https://e.example/linear/oauth/callback" in text
    assert ("https://e.example/linear/webhook" in text) == hooks
    assert "read,write,app:assignable,app:mentionable" in text
    assert ("/linear/oauth/authorize?ticket=" in text) == (mode == "oauth")
    assert "s3cret" not in text


def test_without_settings_the_guide_names_them() -> None:
    text = "\n".join([*guide.create(None, public_url="https://e.example"), *guide.settings(None)])
    assert "ERRAND_LINEAR__CLIENT_ID=" in text
    assert "/linear/webhook" in text


def test_a_ticket_can_not_be_prolonged() -> None:
    ticket = install_ticket(config(), now=NOW)
    until, seal = ticket.split(".")
    assert is_ticket(config(), ticket, now=NOW)
    for forged in (f"{int(until) + 1}.{seal}", f"{until}.{'0' * 64}", ticket + "0", "é." + seal):
        assert not is_ticket(config(), forged, now=NOW)


def test_ids_of_ours_are_the_same_each_time_and_what_linear_takes() -> None:
    first = made_from("a", "b")
    assert first == made_from("a", "b")
    assert len({first, made_from("ab"), made_from("a", "b", ""), made_from("b", "a")}) == 4
    assert is_id(first)
    assert first[14] == "4"
    assert first[19] in "89ab"
    assert not is_id("1732104999.000900")
