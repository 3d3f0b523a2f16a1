import pytest

from bot.errors import SettingsError
from bot.settings import HttpSettings, known_names, load_settings, unknown_names


def test_a_misspelt_name_is_found() -> None:
    assert unknown_names(["ERRAND_SLAK__BOT_TOKEN", "PATH", "ERRAND_DATA_DIR"]) == [
        "ERRAND_SLAK__BOT_TOKEN"
    ]


def test_a_misspelt_name_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match="ERRAND_DATADIR"):
        load_settings({"ERRAND_DATADIR": "elsewhere"})


def test_the_name_that_was_meant_is_said() -> None:
    with pytest.raises(SettingsError, match=r"ERRAND_HTP__PORT: did you mean ERRAND_HTTP__PORT\?"):
        load_settings({"ERRAND_HTP__PORT": "1"})


def test_a_name_like_no_other_leads_to_the_documents() -> None:
    with pytest.raises(SettingsError, match=r"no setting ERRAND_ZZZ: docs/settings\.md"):
        load_settings({"ERRAND_ZZZ": "1"})


def test_all_misspelt_names_are_said_at_once() -> None:
    with pytest.raises(SettingsError, match=r"ERRAND_DATADIR.*ERRAND_REDISURL"):
        load_settings({"ERRAND_DATADIR": "x", "ERRAND_REDISURL": "x"})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8400"),
        ("0.0.0.0", "http://127.0.0.1:8400"),  # noqa: S104 - as people set it
        ("::", "http://127.0.0.1:8400"),
        ("::1", "http://[::1]:8400"),
        ("errand.acme.test", "http://errand.acme.test:8400"),
    ],
)
def test_serve_is_found_on_its_own_machine_whatever_it_listens_on(host: str, url: str) -> None:
    assert HttpSettings(host=host).local_url == url


def test_the_promised_names_are_known() -> None:
    promised = {
        "ERRAND_DATA_DIR", "ERRAND_DATABASE_URL", "ERRAND_REDIS_URL", "ERRAND_HTTP__HOST",
        "ERRAND_HTTP__PORT", "ERRAND_POLICY_FILE", "ERRAND_SLACK__BOT_TOKEN",
        "ERRAND_SLACK__SIGNING_SECRET", "ERRAND_SLACK__APP_TOKEN", "ERRAND_SLACK__API_URL",
        "ERRAND_GITHUB__TOKEN", "ERRAND_GITHUB__API_URL", "ERRAND_GITHUB__GIT_URL",
    }  # fmt: skip
    assert promised <= known_names()


def test_a_secret_has_the_name_that_the_policy_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_SECRETS__ANTHROPIC_API_KEY", "sk-canary")
    assert unknown_names(["ERRAND_SECRETS__ANTHROPIC_API_KEY"]) == []
    settings = load_settings()
    assert settings.secrets["ANTHROPIC_API_KEY"].get_secret_value() == "sk-canary"
    assert "canary" not in repr(settings)


def test_a_secret_that_no_header_can_carry_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ERRAND_SECRETS__KEY", "sk-canary\nX-More: 1")
    with pytest.raises(SettingsError, match="ERRAND_SECRETS: KEY is empty, or") as raised:
        load_settings()
    assert "canary" not in str(raised.value)
