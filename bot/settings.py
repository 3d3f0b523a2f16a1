"""The settings, and the only reader of the environment."""

import base64
import contextlib
import difflib
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableError

from bot.errors import SettingsError, SetupError
from integrations.github.config import GitHubConfig
from integrations.linear.config import LinearConfig
from integrations.slack.config import SlackConfig
from policies.connections import is_header_value
from runner.protocol import Runtime

PREFIX = "ERRAND_"
ENV_FILE = ".env"
EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what people set, for `serve` in a container
SECRETS = f"{PREFIX}SECRETS__"
MIN_INBOX_DAYS = 7


class HttpSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)
    public_url: str = ""
    """How people's browsers reach this server; `http://<host>:<port>` if empty."""

    @property
    def local_url(self) -> str:
        """Where it answers on this machine."""
        host = "127.0.0.1" if self.host in EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class WorkSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    serve_url: str = ""
    """Where `errand serve` answers; the address of `ERRAND_HTTP__*` if empty."""
    token: SecretStr | None = None
    """Shared by `serve` and `work`; made in the data directory if not set."""
    slots: int = Field(default=4, ge=1, le=200)
    """Runs at once on this host."""
    runtime: Runtime = "runc"
    """What keeps agents from this host at least: `runc`, or `runsc` (gVisor). A policy can demand more, not less."""
    docker_host: str = ""
    """As Docker's own DOCKER_HOST, which counts if this is empty; else the local socket."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Where `work` answers Prometheus; 0 is nowhere."""
    metrics_host: str = "127.0.0.1"


class OtelSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    endpoint: str = Field(default="", pattern=r"^(https?://[^\s]+)?$")
    """Base URL of an OTLP/HTTP collector; traces are off if empty."""
    headers: SecretStr = SecretStr("")
    """`name=value,name=value`, for a collector that wants a key."""


class RetentionSettings(BaseModel):
    """Days that things are kept; 0 is for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    events_days: int = Field(default=90, ge=0)
    """Events of tasks that have ended; their transcripts say the same."""
    transcripts_days: int = Field(default=90, ge=0)
    bundles_days: int = Field(default=30, ge=0)
    """Handed-in commits that were not published."""
    inbox_days: int = Field(default=30, ge=0)
    """Deliveries that were dealt with. They are also what tells a repeated one."""
    audit_days: int = Field(default=0, ge=0)
    """The audit record; what is older is moved into files in the data directory."""

    @field_validator("inbox_days")
    @classmethod
    def _longer_than_senders_try(cls, days: int) -> int:
        if 0 < days < MIN_INBOX_DAYS:
            raise ValueError(
                f"keep deliveries for {MIN_INBOX_DAYS} days at least (or 0, for ever):"
                " a channel may deliver again for so long"
            )
        return days


class Settings(BaseSettings):
    """All settings. Absent channels and forges are off."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        env_ignore_empty=True,
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
    secrets: dict[str, SecretStr] = Field(default={}, repr=False)
    """Credentials of the policy's connections, for workers: `ERRAND_SECRETS__ANTHROPIC_API_KEY` is what
    `secret: ANTHROPIC_API_KEY` means."""
    vault_key: SecretStr | None = None
    """Encrypts what channels keep in the database; made in the data directory if not set."""
    http: HttpSettings = HttpSettings()
    work: WorkSettings = WorkSettings()
    retention: RetentionSettings = RetentionSettings()
    otel: OtelSettings = OtelSettings()
    slack: SlackConfig | None = None
    linear: LinearConfig | None = None
    github: GitHubConfig | None = None

    @field_validator("data_dir", "policy_file")
    @classmethod
    def _at_home(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()

    @field_validator("redis_url")
    @classmethod
    def _spoken_by_redis(cls, url: str) -> str:
        if url and not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH")
        return url

    @field_validator("secrets")
    @classmethod
    def _named_as_in_the_policy(cls, secrets: dict[str, SecretStr]) -> dict[str, SecretStr]:
        """Names of the environment come in small letters, or in whatever the file has."""
        for name, secret in secrets.items():
            if not is_header_value(secret.get_secret_value()):
                raise ValueError(
                    f"{name.upper()} is empty, or holds a character that no header can carry"
                )
        return {name.upper(): secret for name, secret in secrets.items()}

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir.resolve()}/errand.db"

    @property
    def public_url(self) -> str:
        return (self.http.public_url or self.http.local_url).rstrip("/")

    @property
    def serve_url(self) -> str:
        return (self.work.serve_url or self.http.local_url).rstrip("/")

    @property
    def docker_host(self) -> str | None:
        """As Docker's own DOCKER_HOST; None is the local socket."""
        return self.work.docker_host or os.environ.get("DOCKER_HOST") or None


PARTS: dict[str, type[BaseModel]] = {
    "http": HttpSettings,
    "work": WorkSettings,
    "retention": RetentionSettings,
    "otel": OtelSettings,
    "slack": SlackConfig,
    "linear": LinearConfig,
    "github": GitHubConfig,
}


def known_names() -> frozenset[str]:
    """Every name of an environment variable that means something to us."""
    names = {f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    for parent, model in PARTS.items():
        names |= {f"{PREFIX}{parent}__{field}".upper() for field in model.model_fields}
    return frozenset(names)


def unknown_names(names: Iterable[str]) -> list[str]:
    """The `ERRAND_*` names among these that no setting has: misspelt, most likely."""
    known = known_names()
    ours = sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)
    return [n for n in ours if not n.upper().startswith(SECRETS)]


def load_settings(environment: Mapping[str, str] | None = None, **fixed: Any) -> Settings:
    """Read the environment and `.env`.

    Args:
        environment: whose names are checked, if not the process's.
        fixed: settings that neither can change.

    Raises:
        SettingsError: a name is misspelt or a value is wrong; the message names it.
    """
    names = [*(os.environ if environment is None else environment), *dotenv_values(ENV_FILE)]
    if unknown := unknown_names(names):
        raise SettingsError("; ".join(map(_misspelt, unknown)))
    try:
        return Settings(**fixed)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise SettingsError("; ".join(map(_wrong, found))) from error
    except UnreadableError as error:
        raise SettingsError(
            f"a setting can't be read ({error}): set its parts, like {PREFIX}HTTP__PORT=8400"
        ) from error


def _misspelt(name: str) -> str:
    whole = known_names() - {f"{PREFIX}{part}".upper() for part in PARTS}
    close = difflib.get_close_matches(name.upper(), whole, n=1, cutoff=0.75)
    hint = f"did you mean {close[0]}?" if close else "docs/settings.md has them all"
    return f"there is no setting {name}: {hint}"


def _wrong(found: ErrorDetails) -> str:
    loc = "__".join(str(part) for part in found["loc"]).upper()
    match found["type"]:
        case "missing":
            return f"{PREFIX}{loc} is missing"
        case "extra_forbidden":
            return f"{ENV_FILE} has {loc}, which is none of our settings: take it out"
        case "value_error":
            return f"{PREFIX}{loc}: {found['ctx']['error']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{PREFIX}{loc}: set its parts, like {PREFIX}HTTP__PORT=8400"
        case _:
            return f"{PREFIX}{loc}: {found['msg'][:1].lower()}{found['msg'][1:]}"


def worker_token(settings: Settings) -> SecretStr:
    """The token that `serve` and `work` share; made once in the data directory where none is set.

    Raises:
        SetupError: the data directory can't be written.
    """
    if settings.work.token is not None:
        return settings.work.token
    return _kept(settings, "worker.token", secrets.token_urlsafe(32))


def vault_key(settings: Settings) -> SecretStr:
    """What adapters' secrets in the database are encrypted with; made once in the data directory where none is set.

    Raises:
        SetupError: the data directory can't be written.
    """
    if settings.vault_key is not None:
        return settings.vault_key
    return _kept(settings, "vault.key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


def _kept(settings: Settings, name: str, made: str) -> SecretStr:
    path = settings.data_dir / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, made)
        return SecretStr(path.read_text().strip())
    except OSError as error:
        raise SetupError(
            f"can't keep {name} in {settings.data_dir} ({error.strerror}): make it writable, or set ERRAND_DATA_DIR"
        ) from error


def _write_once(path: Path, text: str) -> None:
    """The file is there whole or not at all, and who comes second reads what the first wrote."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".draft-") as draft:
        draft.write(text)
        draft.flush()
        with contextlib.suppress(FileExistsError):
            os.link(draft.name, path)
