"""`.errand.yml`: what a repository says about how work in it is set up and verified."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from runner.agents.catalogue import AgentEntry
from runner.errors import RepoSettingsError
from runner.protocol import Launch, RepoSettings

FILE: Final = ".errand.yml"
MAX_BYTES: Final = 64 * 1024
MAX_COMMANDS: Final = 50


def parse(content: bytes | None) -> RepoSettings:
    """The settings; an absent or empty file means all defaults.

    Raises:
        RepoSettingsError: the sentence names the field.
    """
    document = _load(content or b"")
    if unknown := sorted(str(key) for key in document if key not in RepoSettings.model_fields):
        known = ", ".join(RepoSettings.model_fields)
        raise RepoSettingsError(f"{FILE}: `{unknown[0][:80]}` is unknown; known are {known}")
    agent = document.get("agent")
    return RepoSettings(
        image=_text("image", document.get("image") or "default"),
        setup=_commands("setup", document.get("setup")),
        verify=_commands("verify", document.get("verify")),
        agent=None if agent is None else _text("agent", agent),
    )


def choose_agent(
    launch: Launch, settings: RepoSettings, catalogue: Mapping[str, AgentEntry]
) -> AgentEntry:
    """The agent that was asked for, else the repository's, else the first that the grant allows.

    Raises:
        RepoSettingsError: the repository names one that this run may not use.
    """
    name = launch.agent or settings.agent or next(iter(launch.agents), "")
    entry = catalogue.get(name)
    if entry is None or name not in launch.agents:
        allowed = ", ".join(launch.agents) or "none"
        raise RepoSettingsError(f"{FILE}: agent `{name}` is not allowed here; allowed: {allowed}")
    return entry


def choose_image(settings: RepoSettings, agent: AgentEntry, images: Mapping[str, str]) -> str:
    """The tag or digest to run.

    Raises:
        RepoSettingsError: this installation has no image of that name.
    """
    name = agent.image if settings.image == "default" else settings.image
    if name not in images:
        known = ", ".join(sorted(images)) or "none"
        raise RepoSettingsError(f"{FILE}: there is no image `{name}` here; there are: {known}")
    return images[name]


def _load(content: bytes) -> dict[Any, Any]:
    if len(content) > MAX_BYTES:
        raise RepoSettingsError(f"{FILE}: larger than {MAX_BYTES} bytes")
    try:
        # Aliases can make a small file huge, and nothing here needs them.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(content)):
            raise RepoSettingsError(f"{FILE}: aliases are not supported")
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RepoSettingsError(f"{FILE}: no valid YAML{_place(error)}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise RepoSettingsError(f"{FILE}: must be a list of `name: value` lines")
    return document


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1})" if mark is not None else ""


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RepoSettingsError(f"{FILE}: `{field}` must be a text")
    if "\0" in value:
        raise RepoSettingsError(f"{FILE}: `{field}` holds a NUL character")
    return value.strip()


def _commands(field: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_COMMANDS:
        raise RepoSettingsError(f"{FILE}: `{field}` has more than {MAX_COMMANDS} commands")
    return tuple(_text(field, item) for item in items)
