"""The examples in the documents can be used as they stand."""

import re
from pathlib import Path

from policies.features import FEATURES
from policies.hosts import PROFILES
from policies.load import parse_policy
from runner.repo_settings import parse

DOCUMENT = Path(__file__).parents[3] / "docs/policy.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_documented_policy_can_be_used() -> None:
    policy = parse_policy(EXAMPLES[0], path=DOCUMENT)
    assert len(policy.rules) == 2
    web = policy.repos["acme/web"]
    assert web.publish.max_bytes == 5_000_000
    assert web.commands.deny == ("curl", "ssh")
    assert web.egress.profiles == ("node",)
    assert [rule.mode for rule in web.egress.hosts] == ["inspect"] * 3 + ["splice"]


def test_the_documented_profiles_are_those_that_there_are() -> None:
    table = DOCUMENT.read_text().partition("| profile |")[2].partition("\n\n")[0]
    named = {
        name for row in table.splitlines()[1:] for name in re.findall(r"`([a-z-]+)`", row[:40])
    }
    assert named == set(PROFILES)


def test_the_documented_connections_can_be_used() -> None:
    page = DOCUMENT.with_name("connections.md")
    [example] = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    policy = parse_policy(example, path=page)
    assert [c.kind for c in policy.connections.values()] == ["llm", "llm", "http", "tcp"]
    told = page.read_text()
    assert [name for name in FEATURES if f"`{name}`" not in told] == []


def test_the_documented_repository_settings_can_be_used() -> None:
    settings = parse(EXAMPLES[1].encode())
    assert settings.setup == ("npm ci",)
    assert settings.agent == "claude-code"
