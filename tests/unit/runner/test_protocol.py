"""What a command to open a host may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from policies.egress import HostRule, rule_from_json
from runner.guard import allow_message, open_ports
from runner.protocol import Command, HostOpening
from tests.support.agent_container import RUN, a_launch


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "*.example.com"},
        {"host": "10.0.0.1"},
        {"host": "X.example.com"},
        {"host": "git.internal"},
        {"host": "x.example.com", "methods": ["get"]},
        {"host": "x.example.com", "ports": ["22"]},
        {"host": "x.example.com", "ports": []},
    ],
)
def test_an_opening_is_one_host_of_the_policys_grammar(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HostOpening.model_validate(fields)


def test_an_opening_goes_with_allow_and_nothing_else() -> None:
    opening = HostOpening(host="x.example.com")
    with pytest.raises(ValidationError, match="goes with"):
        Command(id="c1", run=RUN, kind="stop", opening=opening)
    with pytest.raises(ValidationError, match="goes with"):
        Command(id="c1", run=RUN, kind="allow")
    command = Command(id="c1", run=RUN, kind="allow", opening=opening)
    assert Command.model_validate_json(command.model_dump_json()) == command


def test_the_gateway_reads_an_opening_as_it_was_meant() -> None:
    message = allow_message(
        HostOpening(host="x.example.com", methods=("PUT",), ports=("https:8443",))
    )
    assert (message["do"], message["until"]) == ("allow", None)
    assert rule_from_json(message["rule"], source="allowed") == HostRule(
        host="x.example.com", methods=frozenset({"PUT"}), ports=(("https", 8443),), source="allowed"
    )


def test_the_acceptor_listens_where_rules_lead() -> None:
    launch = a_launch(egress=({"host": "a.acme.com", "ports": [8443, 443, "http:8080"]},))
    assert open_ports(launch, ()) == (8080, 8443)
    assert open_ports(a_launch(), ()) == ()
