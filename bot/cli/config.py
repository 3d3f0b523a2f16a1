"""`errand config`: the settings in force."""

from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr

from bot.cli.output import AsJson, print_facts, print_json
from bot.settings import PARTS, PREFIX, load_settings

app = typer.Typer(help="The settings.", no_args_is_help=True, add_completion=False)


@app.callback()
def _config() -> None:
    """The settings."""


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """The settings in force; secrets are masked."""
    settings = load_settings()
    shown = _masked(settings.model_dump())
    shown["database_url"] = _masked_url(settings.database)
    shown["redis_url"] = _masked_url(settings.redis_url) or "embedded"
    if as_json:
        print_json(shown)
        return
    print_facts(_flat(shown))


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, Path) else value


def _masked_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}://{'********' if credentials else ''}{at}{place}" if rest else url


def _flat(value: dict[str, Any], prefix: str = PREFIX) -> dict[str, object]:
    """By the names that the environment has for them."""
    flat: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}".upper()
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{name}__")
        else:
            flat[name] = "off" if inner is None and key in PARTS else inner
    return flat
