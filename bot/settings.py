"""The settings, and the only reader of the environment."""

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot.errors import SettingsError
from integrations.github.config import GitHubConfig
from integrations.slack.config import SlackConfig

PREFIX = "ERRAND_"


class HttpSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)
    public_url: str = ""
    """How people's browsers reach this server; `http://<host>:<port>` if empty."""


class WorkSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    serve_url: str = ""
    """Where `errand serve` answers; the address of `ERRAND_HTTP__*` if empty."""
    token: SecretStr | None = None
    """Shared by `serve` and `work`; made in the data directory if not set."""
    slots: int = Field(default=4, ge=1, le=200)
    """Runs at once on this host."""
    docker_host: str = ""
    """As Docker's own DOCKER_HOST; the local socket if empty."""


class Settings(BaseSettings):
    """All settings. Absent channels and forges are off."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    data_dir: Path = Path(".errand")
    """Database, embedded Redis, mirrors, local forge, transcripts."""
    database_url: str = ""
    """`sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`; SQLite in the data directory if empty."""
    redis_url: str = ""
    """A shared Redis or Valkey; the embedded one if empty."""
    policy_file: Path | None = None
    """The policy; without one everything is refused."""
    installation: str = Field(default="errand", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Labels containers, so that two installations can share a Docker host."""
    log_json: bool | None = None
    """JSON logs; by default only where standard error is no terminal."""
    http: HttpSettings = HttpSettings()
    work: WorkSettings = WorkSettings()
    slack: SlackConfig | None = None
    github: GitHubConfig | None = None

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir.resolve()}/errand.db"

    @property
    def public_url(self) -> str:
        return (self.http.public_url or f"http://{self.http.host}:{self.http.port}").rstrip("/")

    @property
    def serve_url(self) -> str:
        return (self.work.serve_url or f"http://{self.http.host}:{self.http.port}").rstrip("/")


def known_names() -> frozenset[str]:
    """Every name of an environment variable that means something to us."""
    nested: dict[str, type[BaseModel]] = {
        "http": HttpSettings,
        "work": WorkSettings,
        "slack": SlackConfig,
        "github": GitHubConfig,
    }
    names = {f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    for parent, model in nested.items():
        names |= {f"{PREFIX}{parent}__{field}".upper() for field in model.model_fields}
    return frozenset(names)


def unknown_names(names: Iterable[str]) -> list[str]:
    """The `ERRAND_*` names among these that no setting has: misspelt, most likely."""
    known = known_names()
    return sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment and `.env`.

    Raises:
        SettingsError: a name is misspelt or a value is wrong; the message names it.
    """
    if unknown := unknown_names(os.environ if environment is None else environment):
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}: known names are {', '.join(sorted(known_names()))}"
        )
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'__'.join(str(part) for part in e['loc']).upper()}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("; ".join(lines)) from error


def worker_token(settings: Settings) -> SecretStr:
    """The token that `serve` and `work` share; made once in the data directory where none is set."""
    if settings.work.token is not None:
        return settings.work.token
    path = settings.data_dir / "worker.token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return SecretStr(path.read_text().strip())
    with os.fdopen(descriptor, "w") as file:
        file.write(token := secrets.token_urlsafe(32))
    return SecretStr(token)


def subprocess_environment() -> dict[str, str]:
    """Our own environment, for helpers that we start ourselves."""
    return dict(os.environ)
