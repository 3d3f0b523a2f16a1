import pytest
from pydantic import SecretStr, ValidationError

from integrations.github.config import GitHubConfig


def test_a_slash_at_the_end_of_an_address_is_dropped() -> None:
    config = GitHubConfig(token=SecretStr("t"), api_url="https://ghes.example/api/v3/")
    assert config.api_url == "https://ghes.example/api/v3"


@pytest.mark.parametrize(
    "url",
    [
        "http://ghes.example",
        "ftp://ghes.example",
        "https://user:secret@ghes.example",
        "https://ghes.example/?token=secret",
        "ghes.example",
    ],
)
def test_the_token_goes_only_where_nobody_listens(url: str) -> None:
    with pytest.raises(ValidationError):
        GitHubConfig(token=SecretStr("t"), git_url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:4001", "http://localhost:4001"])
def test_loopback_needs_no_tls(url: str) -> None:
    assert GitHubConfig(token=SecretStr("t"), api_url=url).api_url == url


def test_the_token_is_in_no_representation() -> None:
    assert "ghp_secret" not in repr(GitHubConfig(token=SecretStr("ghp_secret")))
