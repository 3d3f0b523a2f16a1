"""What a gateway is told, and what is said where a secret is missing."""

import pytest
from pydantic import SecretStr

from runner.agents.catalogue import CATALOGUE
from runner.errors import NotEquippedError
from runner.guard import check_connections, policy_message
from runner.protocol import Connection
from tests.support.agent_container import BASE, a_launch

ANTHROPIC = Connection(
    name="anthropic",
    upstream="https://api.acme.com",
    secret="ANTHROPIC_API_KEY",
    header="x-api-key",
    models=("claude-*",),
)
SECRETS = {"ANTHROPIC_API_KEY": SecretStr("sk-canary")}


def test_the_gateway_gets_the_secret_itself() -> None:
    message = policy_message(a_launch(connections=(ANTHROPIC,)), base_commit=BASE, secrets=SECRETS)
    assert message["connections"] == [
        {
            "kind": "llm",
            "name": "anthropic",
            "upstream": "https://api.acme.com",
            "private": False,
            "header": "x-api-key",
            "models": ["claude-*"],
            "secret": "sk-canary",
        }
    ]


def test_a_missing_secret_is_named_with_who_can_set_it() -> None:
    launch = a_launch(connections=(ANTHROPIC,))
    with pytest.raises(NotEquippedError, match=r"ERRAND_SECRETS__ANTHROPIC_API_KEY.*operator"):
        check_connections(launch, CATALOGUE["script"], secrets={})
    with pytest.raises(NotEquippedError, match="ERRAND_SECRETS__ANTHROPIC_API_KEY"):
        policy_message(launch, base_commit=BASE, secrets={})


def test_an_agent_without_its_connection_does_not_start() -> None:
    with pytest.raises(NotEquippedError, match=r"Claude Code needs the connection `anthropic`.*acme/web"):  # fmt: skip
        check_connections(a_launch(), CATALOGUE["claude-code"], secrets=SECRETS)
    check_connections(a_launch(), CATALOGUE["script"], secrets={})
