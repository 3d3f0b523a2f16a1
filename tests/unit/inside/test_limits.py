"""Budgets, pace, openings and what is told of denials: with clocks of their own."""

import io
import json
from typing import Any

import pytest

from policies.egress import Allow, Deny, EgressRules, HostRule, decide
from runner.inside.audit import DENIALS, Audit, Dialled
from runner.inside.budget import Budget, Pace
from runner.inside.errors import EgressDeniedError
from runner.inside.openings import OPENINGS, Openings
from runner.inside.wire import Transcript

A = Allow(host="a.com", port=443, rule="egress:a.com", private=False, upload=10)
B = Allow(host="b.com", port=443, rule="egress:b.com", private=False, upload=10)


def test_each_host_has_a_budget_of_its_own() -> None:
    budget = Budget()
    budget.send(A, 10)
    assert (budget.left(A), budget.left(B)) == (0, 10)
    with pytest.raises(EgressDeniedError, match="may send 10 bytes"):
        budget.send(A, 1)
    budget.send(B, 10)


def test_what_was_refused_does_not_count() -> None:
    budget = Budget()
    with pytest.raises(EgressDeniedError):
        budget.send(A, 11)
    budget.send(A, 10)


def test_a_run_receives_so_much_and_no_more() -> None:
    budget = Budget(download_bytes=10)
    budget.receive(A, 6)
    budget.receive(B, 4)
    with pytest.raises(EgressDeniedError, match="received all"):
        budget.receive(A, 1)


def test_a_burst_goes_at_once_and_what_follows_at_a_pace() -> None:
    clock = [0.0]
    pace = Pace(a_second=10, at_once=3, now=lambda: clock[0])
    assert [pace.wait_seconds() for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    clock[0] = 100.0
    assert [pace.wait_seconds() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


class Clocks:
    def __init__(self) -> None:
        self.now = 50.0
        self.openings = Openings(now=lambda: self.now, wall=lambda: self.now + 1000)

    def opens(self, host: str, **request: Any) -> bool:
        asked = {"method": "GET", "scheme": "https", "port": 443, "path": "/", **request}
        answer = decide(self.openings.added_to(EgressRules()), host=host, **asked)
        assert isinstance(answer, Deny) or answer.rule == f"allowed:{host}"
        return isinstance(answer, Allow)


def opening(host: str = "a.com", *, until: object = None, **fields: Any) -> dict[str, Any]:
    return {"do": "allow", "rule": {"host": host, **fields}, "until": until}


def test_an_opening_lasts_until_its_end() -> None:
    clocks = Clocks()
    assert clocks.openings.load(opening(until=1060)) is None
    assert clocks.openings.load(opening("b.com")) is None
    assert clocks.opens("a.com")
    clocks.now = 60.0
    assert not clocks.opens("a.com")
    clocks.now = 1e9
    assert clocks.opens("b.com")


def test_an_opening_opens_what_it_says() -> None:
    clocks = Clocks()
    assert clocks.openings.load(opening(methods=["GET"], ports=["https:443"])) is None
    assert not clocks.opens("a.com", method="POST")
    assert not clocks.opens("a.com", scheme="http", port=80)
    assert not clocks.opens("b.com")


def test_the_same_host_opened_again_counts_from_then() -> None:
    clocks = Clocks()
    clocks.openings.load(opening(until=1060))
    clocks.openings.load(opening(until=1070))
    clocks.now = 65.0
    assert clocks.opens("a.com")


ODD_ENDS: list[object] = ["1060", True, [], 1049, 0, float("nan")]


@pytest.mark.parametrize(
    "msg",
    [
        {},
        {"rule": "a.com"},
        opening("*.a.com"),
        opening("10.0.0.1"),
        opening(mode="splice"),
        opening(private=True),
        *(opening(until=until) for until in ODD_ENDS),
    ],
)
def test_an_opening_that_is_not_right_opens_nothing(msg: dict[str, Any]) -> None:
    clocks = Clocks()
    assert clocks.openings.load(msg)
    assert clocks.openings.added_to(EgressRules()) == EgressRules()


def test_there_are_only_so_many_openings() -> None:
    clocks = Clocks()
    for number in range(OPENINGS):
        assert clocks.openings.load(opening(f"h{number}.com")) is None
    assert "open already" in (clocks.openings.load(opening("one.more.com")) or "")
    assert clocks.openings.load(opening("h0.com")) is None


def test_the_policys_own_rules_come_first() -> None:
    clocks = Clocks()
    clocks.openings.load(opening())
    rules = clocks.openings.added_to(EgressRules(rules=(HostRule(host="a.com"),)))
    assert [rule.source for rule in rules.rules] == ["egress", "allowed"]


class Told:
    def __init__(self) -> None:
        self._out = io.BytesIO()
        self.audit = Audit(Transcript(self._out, now=lambda: 0.0))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


def test_what_is_denied_over_and_over_is_counted() -> None:
    told = Told()
    for _ in range(5):
        told.audit.deny(Dialled(host="a.com", port=443), "no", method="GET", path="/x")
    assert [(line["count"], line["path"]) for line in told.lines()] == [(1, "/x")]
    told.audit.settle()
    assert [line["count"] for line in told.lines()] == [1, 4]
    told.audit.settle()
    assert len(told.lines()) == 2
    told.audit.deny(Dialled(host="a.com", port=443), "no", method="GET")
    assert [line["count"] for line in told.lines()] == [1, 4, 1]


def test_a_flood_of_different_denials_is_told_in_one_line() -> None:
    told = Told()
    for number in range(DENIALS + 7):
        told.audit.deny(Dialled(host=f"h{number}.com", port=443), "no")
    told.audit.settle()
    lines = told.lines()
    assert len(lines) == DENIALS + 1
    assert (lines[-1]["host"], lines[-1]["count"]) == ("", 7)
    assert sum(line["count"] for line in lines) == DENIALS + 7
