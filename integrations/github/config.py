"""What GitHub needs to be told."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


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
        parts = urlsplit(url)
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("an address such as https://HOST, without a credential or a query")
        if parts.scheme != "https" and not (parts.scheme == "http" and _loopback(parts.hostname)):
            raise ValueError("https, because the token goes there")
        return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
