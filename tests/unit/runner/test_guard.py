"""What a gateway is told, and what is said where a secret is missing."""

import pytest
from pydantic import SecretStr

from policies.connection_model import (
    AllowedRequests,
    GrantedHttp,
    GrantedLlm,
    GrantedTcp,
)
from policies.connections import LlmAccess
from policies.connections_json import connections_from_json
from policies.pricelist import ModelPrice
from policies.prices import price_of
from runner.agents.catalogue import CATALOGUE
from runner.errors import NotEquippedError
from runner.guard import check_connections, policy_message
from tests.support.agent_container import BASE, a_launch

ANTHROPIC = GrantedLlm(
    kind="llm",
    name="anthropic",
    upstream="https://api.acme.com",
    secret="ANTHROPIC_API_KEY",
    models=("claude-*",),
)
SECRETS = {"ANTHROPIC_API_KEY": SecretStr("sk-canary")}


def test_the_gateway_gets_the_secret_itself() -> None:
    message = policy_message(a_launch(connections=(ANTHROPIC,)), base_commit=BASE, secrets=SECRETS)
    [told] = message["connections"]
    assert (told["header"], told["scheme"], told["secret"]) == ("x-api-key", "", "sk-canary")
    understood = connections_from_json(message["connections"])
    assert understood is not None
    [access] = understood.calls.values()
    assert isinstance(access, LlmAccess)
    assert access.credential.value == "sk-canary"
    assert message["budget"] == {"limit_usd": 5.0, "spent_usd": 0.0}


def test_prices_of_the_policy_come_before_those_of_errand() -> None:
    own = ModelPrice(model="claude-opus-5*", input=1, output=2)
    launch = a_launch(connections=(ANTHROPIC.model_copy(update={"prices": (own,)}),))
    message = policy_message(launch, base_commit=BASE, secrets=SECRETS)
    understood = connections_from_json(message["connections"])
    assert understood is not None
    [access] = understood.calls.values()
    assert isinstance(access, LlmAccess)
    costs = {
        model: price.input
        for model in ("claude-opus-5-5", "claude-sonnet-5", "other")
        if (price := price_of(access.prices, model))
    }
    assert costs == {"claude-opus-5-5": 1, "claude-sonnet-5": 2, "other": 30}


def test_every_kind_of_connection_is_understood_by_the_gateway() -> None:
    database = GrantedTcp(kind="tcp", name="db", upstream="db.acme.internal:5432", private=True)
    issues = GrantedHttp(
        kind="http",
        name="issues",
        upstream="https://issues.acme.com",
        secret="ANTHROPIC_API_KEY",
        user="bot",
        requests=(AllowedRequests(methods=("GET",), paths=("/api/**",)),),
    )
    openai = ANTHROPIC.model_copy(update={"name": "openai", "dialect": "openai"})
    launch = a_launch(connections=(ANTHROPIC, openai, database, issues))
    assert launch.ports == (5432,)
    check_connections(launch, CATALOGUE["script"], secrets=SECRETS)
    message = policy_message(launch, base_commit=BASE, secrets=SECRETS)
    understood = connections_from_json(message["connections"])
    assert understood is not None
    values = {host: access.credential.value for host, access in understood.calls.items()}
    assert values == {
        "anthropic.llm.internal": "sk-canary",
        "openai.llm.internal": "Bearer sk-canary",
        "issues.internal": "Basic Ym90OnNrLWNhbmFyeQ==",
    }
    assert list(understood.tunnels) == [("db.internal", 5432)]


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
