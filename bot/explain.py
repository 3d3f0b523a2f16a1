"""What a gateway would decide on a URL, asked of the very function that it asks."""

from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from bot.errors import SettingsError
from bot.settings import Settings
from bot.trial import Wanted, launch_for, message_of
from policies.connections import DOMAIN, endpoint
from policies.egress import Allow, decide, rules_from_json
from policies.hosts import open_profiles
from runner.protocol import Launch

_UNKNOWN = "what {} open besides is the image's word, which is not asked here"
_PORTS = {"http": 80, "https": 443}


class Explanation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Literal["allow", "deny"]
    rule: str = ""
    reason: str = ""
    note: str = ""
    """What the verdict does not say."""


def explain(settings: Settings, *, repo: str, url: str, method: str) -> Explanation:
    """Nothing is resolved and nothing dialled.

    Raises:
        SettingsError: the policy has no such repository, or that is no URL.
        PolicyError: the policy is not as it must be.
    """
    scheme, host, port, path = _parts(url)
    launch, left_out = launch_for(settings, Wanted(repo=repo))
    if host.endswith(f".{DOMAIN}"):
        return _connection(host, launch, left_out)
    opened = open_profiles(launch.profiles, registries="")
    without = launch.model_copy(update={"connections": ()})
    rules = rules_from_json(message_of(without, profiles=opened.rules, secrets={}))
    if rules is None:
        raise SettingsError(f"the gateway would not take the rules for {repo}")
    answer = decide(rules, method=method, scheme=scheme, host=host, port=port, path=path)
    if not isinstance(answer, Allow):
        note = _UNKNOWN.format(", ".join(opened.empty)) if opened.empty else ""
        return Explanation(verdict="deny", rule=answer.rule, reason=answer.reason, note=note)
    note = "a private address is open" if answer.private else "only if its address is public"
    if answer.mode == "splice":
        note += "; TLS passes unread, whatever the method and the path"
    return Explanation(verdict="allow", rule=answer.rule, note=note)


def _parts(url: str) -> tuple[str, str, int, str]:
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as error:
        raise SettingsError(f"{url!r} is no URL: {error}") from error
    if found.scheme not in _PORTS or not found.hostname:
        raise SettingsError(f"{url!r} is no URL: write http://host/path or https://host/path")
    default = _PORTS[found.scheme]
    return found.scheme, found.hostname, default if port is None else port, found.path or "/"


def _connection(host: str, launch: Launch, left_out: Sequence[str]) -> Explanation:
    names = {
        endpoint(connection.kind, connection.name): connection.name
        for connection in launch.connections
    }
    name = next(
        (name for name in left_out if host.split(".", maxsplit=1)[0] == name), names.get(host)
    )
    if name is None:
        return Explanation(verdict="deny", reason=f"{launch.repo} has no connection at {host}")
    missing = "; its secret is not on this machine: a worker needs it" if name in left_out else ""
    note = f"what may be asked of it is judged request by request{missing}"
    return Explanation(verdict="allow", rule=f"connection:{name}", note=note)
