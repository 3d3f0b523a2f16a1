from pathlib import Path
from typing import Any

import pytest

from bot.broker import MOST_CHARACTERS, Broker
from bot.store.rows import TaskRow
from integrations.reading import Check
from integrations.testing_forge import FakeReading
from policies.decide import decide
from policies.load import parse_policy
from policies.model import Ask
from runner.protocol import Answered, Asked
from tests.support.discussions import A_PULL, AN_ISSUE
from tests.support.store import a_task

READING = FakeReading(
    pulls={("acme/web", 7): A_PULL},
    issues={("acme/web", 3): AN_ISSUE},
    patches={("acme/web", 7): "x" * (MOST_CHARACTERS + 1)},
    runs={("acme/web", 7): [Check(name="test", state="success", url="https://ci.test/1")]},
)
POLICY = parse_policy(
    """
version: 1
rules: [{who: ["*"], where: ["*"], repos: ["*"], agents: ["*"], may: [start]}]
repos: {acme/web: {forge: local, commands: {broker: [gh]}}}
""",
    path=Path("policy.yml"),
)
GRANTED = decide(POLICY, Ask(person="slack:U0DANA", where="slack:C0WEB", action="start"))
GRANT: dict[str, Any] = GRANTED.model_dump(mode="json")


def a_row(**changes: Any) -> TaskRow:
    values = {"repo": "acme/web", "forge": "local", "grant": GRANT, "pull_url": ""}
    return a_task(1, **{**values, **changes})


async def ask(line: str, **changes: Any) -> Answered:
    tool, *argv = line.split()
    broker = Broker(readings={"local": READING})
    return await broker.run(a_row(**changes), Asked(tool=tool, argv=tuple(argv)))


async def test_a_pull_request_is_told_as_plain_text() -> None:
    said = await ask("gh pr view 7")
    assert (said.verdict, said.status, said.stderr) == ("allow", 0, "")
    assert "title:\tFix the login test\n" in said.stdout
    assert "head:\terrand/7-fix\n" in said.stdout
    assert "It was flaky." in said.stdout
    assert "Thanks!" not in said.stdout
    assert "lee commented:\nThanks!" in (await ask("gh pr view 7 --comments")).stdout


async def test_an_issue_and_checks_and_a_diff_are_told() -> None:
    assert "number:\t3" in (await ask("gh issue view 3")).stdout
    assert (await ask("gh pr checks 7")).stdout == "test\tsuccess\thttps://ci.test/1\n"
    assert len((await ask("gh pr diff 7")).stdout) == MOST_CHARACTERS


async def test_without_a_number_it_is_the_tasks_own_pull_request() -> None:
    assert (
        "number:\t7" in (await ask("gh pr view", pull_url="https://f.test/acme/web/pull/7")).stdout
    )
    none = await ask("gh pr view")
    assert (none.status, none.verdict) == (1, "allow")
    assert "no pull request yet" in none.stderr


@pytest.mark.parametrize(
    ("line", "changes", "verdict", "word"),
    [
        ("gh pr merge 7", {}, "deny", "not open"),
        ("gh pr view 7 -R acme/other", {}, "deny", "Another repository"),
        ("kubectl get pods", {}, "deny", "no broker for kubectl"),
        ("gh pr view 7", {"grant": {**GRANT, "brokered_commands": []}}, "deny", "no broker for gh"),
        ("gh pr view 8", {}, "allow", "no 8"),
        ("gh pr view 7", {"forge": "github"}, "allow", "not switched on"),
    ],
)
async def test_what_comes_of_nothing_is_told_with_a_status(
    line: str, changes: dict[str, Any], verdict: str, word: str
) -> None:
    said = await ask(line, **changes)
    assert (said.verdict, said.status, said.stdout) == (verdict, 1, "")
    assert word in said.stderr
