"""What the agents of the catalogue start with."""

import json

import pytest

from runner.agents.catalogue import CATALOGUE


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_without_a_model_an_agent_starts_as_the_catalogue_says(name: str) -> None:
    assert CATALOGUE[name].environment("") == dict(CATALOGUE[name].env)


def test_each_agent_is_told_the_model_in_its_own_way() -> None:
    claude = CATALOGUE["claude-code"].environment("claude-opus-4-5")
    assert claude == {**CATALOGUE["claude-code"].env, "ANTHROPIC_MODEL": "claude-opus-4-5"}
    opencode = CATALOGUE["opencode"].environment("claude-opus-4-5")
    config = json.loads(opencode["OPENCODE_CONFIG_CONTENT"])
    assert config["model"] == "anthropic/claude-opus-4-5"
    assert config["permission"]["webfetch"] == "deny"
    assert CATALOGUE["script"].environment("claude-opus-4-5") == {}
