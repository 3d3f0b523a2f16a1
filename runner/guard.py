"""What a run's gateway is told: policy, and the secrets that the worker has for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from policies.connection_model import GrantedConnection, GrantedHttp, GrantedLlm
from policies.hosts import EgressRule
from policies.pricelist import prices_for
from runner.agents.catalogue import AgentEntry
from runner.errors import NotEquippedError
from runner.protocol import HostOpening, Launch


def policy_message(
    launch: Launch,
    *,
    base_commit: str,
    profiles: Sequence[EgressRule] = (),
    secrets: Mapping[str, SecretStr],
) -> dict[str, Any]:
    """Holds secrets: for the gateway's standard input only. `profiles` is what those of the launch came to.

    Raises:
        NotEquippedError: a secret is missing on this host.
    """
    return {
        "do": "policy",
        "egress": [rule.model_dump(mode="json") for rule in (*launch.egress, *profiles)],
        "seconds": launch.limits.wall_seconds,
        "connections": [_connection(found, secrets) for found in launch.connections],
        "budget": {"limit_usd": launch.limits.cost_usd, "spent_usd": launch.spent_usd},
        "broker": list(launch.brokered_commands),
        "reads": [read.repo for read in launch.reads],
        "publish": launch.publish.model_dump(mode="json"),
        "repo": launch.repo,
        "branch": launch.branch,
        "base": base_commit,
    }


def allow_message(opening: HostOpening) -> dict[str, Any]:
    """Opens a host to a gateway that has its policy already, or will have."""
    return {
        "do": "allow",
        "rule": opening.rule().model_dump(mode="json"),
        "until": opening.expires.timestamp() if opening.expires else None,
    }


def open_ports(launch: Launch, profiles: Sequence[EgressRule]) -> tuple[int, ...]:
    """Where the acceptor listens, besides HTTP's ports."""
    rules = (*launch.egress, *profiles)
    asked = {int(port.partition(":")[2]) for rule in rules for port in rule.ports}
    return tuple(sorted({*asked, *launch.ports} - {80, 443}))


def check_connections(
    launch: Launch, agent: AgentEntry, *, secrets: Mapping[str, SecretStr]
) -> None:
    """Raises NotEquippedError if the agent would find a connection or a secret missing."""
    granted = {connection.name for connection in launch.connections}
    for name in agent.connections:
        if name not in granted:
            raise NotEquippedError(
                f"{agent.title} needs the connection `{name}`, which the policy does not give "
                f"{launch.repo}: whoever edits the policy can add it to `repos`, under `connections`."
            )
    for connection in launch.connections:
        if isinstance(connection, GrantedLlm | GrantedHttp):
            _secret(connection, secrets)


def _connection(connection: GrantedConnection, secrets: Mapping[str, SecretStr]) -> dict[str, Any]:
    match connection:
        case GrantedLlm():
            more = {"prices": prices_for(connection.dialect, connection.prices), "user": ""}
            return _told(connection, secrets) | more
        case GrantedHttp():
            return _told(connection, secrets)
        case _:
            host, port = connection.place
            told = connection.model_dump(mode="json", include={"kind", "name", "private"})
            return told | {"host": host, "port": port}


def _told(connection: GrantedLlm | GrantedHttp, secrets: Mapping[str, SecretStr]) -> dict[str, Any]:
    header, scheme = connection.login
    secret = _secret(connection, secrets).get_secret_value()
    given = connection.model_dump(mode="json", exclude={"prices"})
    return given | {"header": header, "scheme": scheme, "secret": secret}


def _secret(connection: GrantedLlm | GrantedHttp, secrets: Mapping[str, SecretStr]) -> SecretStr:
    found = secrets.get(connection.secret)
    if found is None:
        raise NotEquippedError(
            f"The connection `{connection.name}` needs the secret ERRAND_SECRETS__{connection.secret}, "
            "which this worker does not have: the operator can set it where `errand work` runs."
        )
    return found
