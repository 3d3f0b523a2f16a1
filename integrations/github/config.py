"""What GitHub needs to be told."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from integrations.addresses import safe_for_a_token


class GitHubConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    token: SecretStr = Field(min_length=1)
    """Fine-grained token for the repositories at hand: contents and pull requests, read and write; no workflows."""
    read_token: SecretStr | None = Field(default=None, min_length=1)
    """Fine-grained token with contents read-only: what workers fetch with. Without it they get `token`."""
    api_url: str = "https://api.github.com"
    """Address of the REST API; GitHub Enterprise Server: `https://HOST/api/v3`."""
    git_url: str = "https://github.com"
    """Address that git clones from; GitHub Enterprise Server: `https://HOST`."""

    @field_validator("api_url", "git_url")
    @classmethod
    def _safe_for_a_token(cls, url: str) -> str:
        return safe_for_a_token(url)
