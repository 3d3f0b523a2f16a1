"""The examples in the documents can be used as they stand."""

import re
from pathlib import Path

from policies.load import parse_policy
from runner.repo_settings import parse

DOCUMENT = Path(__file__).parents[3] / "docs/policy.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_documented_policy_can_be_used() -> None:
    policy = parse_policy(EXAMPLES[0], path=DOCUMENT)
    assert len(policy.rules) == 2
    assert policy.repos["acme/web"].publish.max_bytes == 5_000_000
    assert policy.repos["acme/web"].commands.deny == ("curl", "ssh")


def test_the_documented_repository_settings_can_be_used() -> None:
    settings = parse(EXAMPLES[1].encode())
    assert settings.setup == ("npm ci",)
    assert settings.agent == "claude-code"
