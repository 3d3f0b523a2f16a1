"""What a run's gateway is told: policy, and the secrets that the worker has for it."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from runner.agents.catalogue import AgentEntry
from runner.errors import NotEquippedError
from runner.protocol import Connection, Launch


def policy_message(
    launch: Launch, *, base_commit: str, secrets: Mapping[str, SecretStr]
) -> dict[str, Any]:
    """Holds secrets: for the gateway's standard input only.

    Raises:
        NotEquippedError: a secret is missing on this host.
    """
    return {
        "do": "policy",
        "egress": list(launch.egress),
        "private": list(launch.private_hosts),
        "connections": [_connection(found, secrets) for found in launch.connections],
        "broker": list(launch.brokered_commands),
        "publish": launch.publish.model_dump(mode="json"),
        "repo": launch.repo,
        "branch": launch.branch,
        "base": base_commit,
    }


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
        _secret(connection, secrets)


def _connection(connection: Connection, secrets: Mapping[str, SecretStr]) -> dict[str, Any]:
    secret = _secret(connection, secrets).get_secret_value()
    return {"kind": "llm", **connection.model_dump(mode="json"), "secret": secret}


def _secret(connection: Connection, secrets: Mapping[str, SecretStr]) -> SecretStr:
    found = secrets.get(connection.secret)
    if found is None:
        raise NotEquippedError(
            f"The connection `{connection.name}` needs the secret ERRAND_SECRETS__{connection.secret}, "
            "which this worker does not have: the operator can set it where `errand work` runs."
        )
    return found
