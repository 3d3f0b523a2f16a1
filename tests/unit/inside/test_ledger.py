"""The budget of a run: every call is in it once, whatever is booked how often."""

import io
import json
from typing import Any

import pytest

from policies.connections import LlmAccess
from policies.connections_json import connections_from_json
from policies.prices import Tokens
from runner.inside.ledger import Budget, Call, Ledger, budget_from_json
from runner.inside.wire import Transcript
from tests.unit.policies.test_connections import LLM


@pytest.fixture
def out() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def ledger(out: io.BytesIO) -> Ledger:
    made = Ledger(Transcript(out, now=lambda: 0.0))
    made.limit(Budget(limit_usd=1.0, spent_usd=0.25))
    return made


def call(ledger: Ledger, model: str = "claude-opus-5-5") -> Call:
    found = connections_from_json([LLM])
    assert found is not None
    [access] = found.calls.values()
    assert isinstance(access, LlmAccess)
    made = ledger.open(access, model)
    assert made is not None
    return made


def lines(out: io.BytesIO, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_a_call_may_be_booked_as_often_as_it_changes(ledger: Ledger, out: io.BytesIO) -> None:
    one, two = call(ledger), call(ledger)
    ledger.book(one, Tokens(input=1000))
    ledger.book(one, Tokens(input=1000, output=100))
    ledger.book(one, Tokens(input=1000, output=100))
    ledger.book(two, Tokens(input=1000, cache_read=5000))
    told = lines(out, "usage")
    assert [line["calls"] for line in told] == [1, 1, 2]
    last = told[-1]
    assert (last["input"], last["output"], last["cache_read"]) == (2000, 100, 5000)
    assert last["cost_usd"] == last["counted_usd"] == pytest.approx(0.008 + 0.002 + 0.001)


def test_an_unknown_model_has_no_cost_and_counts_dearly(ledger: Ledger, out: io.BytesIO) -> None:
    ledger.book(call(ledger), Tokens(input=1000))
    ledger.book(call(ledger, "claude-next"), Tokens(input=1000, output=1000))
    [_, last] = lines(out, "usage")
    assert last["cost_usd"] is None
    assert last["counted_usd"] == pytest.approx(0.004 + 0.21)


def test_a_long_prompt_costs_more_where_it_does(ledger: Ledger, out: io.BytesIO) -> None:
    ledger.book(call(ledger, "claude-haiku-5-5"), Tokens(input=100_000))
    ledger.book(call(ledger, "claude-haiku-5-5"), Tokens(input=100_001))
    first, last = lines(out, "usage")
    assert first["cost_usd"] == pytest.approx(0.01)
    assert last["cost_usd"] - first["cost_usd"] == pytest.approx(0.05, rel=1e-3)


def test_when_the_budget_is_used_up_it_says_so_once(ledger: Ledger, out: io.BytesIO) -> None:
    assert ledger.refusal() is None
    ledger.book(call(ledger), Tokens(output=37_500))  # $0.75
    assert "the budget of $1.00" in str(ledger.refusal())
    assert ledger.refusal() is not None
    [said] = lines(out, "budget")
    assert (said["limit_usd"], said["spent_usd"]) == (1.0, 1.0)


def test_without_a_budget_nothing_may_be_spent(out: io.BytesIO) -> None:
    assert Ledger(Transcript(out)).refusal() is not None


@pytest.mark.parametrize(
    "data", [None, {}, {"limit_usd": 1}, {"limit_usd": -1, "spent_usd": 0}, {"limit_usd": True, "spent_usd": 0},
             {"limit_usd": float("nan"), "spent_usd": 0}, {"limit_usd": float("inf"), "spent_usd": 0}],
)  # fmt: skip
def test_what_is_no_budget_is_not_taken(data: object) -> None:
    assert budget_from_json(data) is None
    assert budget_from_json({"limit_usd": 5, "spent_usd": 0.5}) == Budget(
        limit_usd=5, spent_usd=0.5
    )
