"""Hosts that people opened while the run was under way, until their time is over."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from policies.egress import EgressRules, HostRule, rule_from_json

OPENINGS = 200


class Openings:
    """What the clock of the host says when an opening comes is the last time that it is asked."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._wall = wall
        self._lock = threading.Lock()
        self._rules: dict[HostRule, float | None] = {}

    def load(self, msg: Mapping[str, Any]) -> str | None:
        """Take one, or say why not. The same host opened again counts from then."""
        rule = rule_from_json(msg.get("rule"), source="allowed")
        until = msg.get("until")
        if (
            rule is None
            or rule.host.startswith("*")
            or rule.mode != "inspect"
            or rule.reaches_inside
        ):
            return "an opening is not understood"
        if until is not None and (isinstance(until, bool) or not isinstance(until, int | float)):
            return "an opening ends at no time that could be understood"
        left = None if until is None else float(until) - self._wall()
        if left is not None and not left > 0:
            return f"the opening of {rule.host} came after its end"
        with self._lock:
            if len(self._rules) >= OPENINGS and rule not in self._rules:
                return f"{OPENINGS} hosts are open already"
            self._rules[rule] = None if left is None else self._now() + left
        return None

    def added_to(self, rules: EgressRules) -> EgressRules:
        """The policy's rules, and those that are open now."""
        if not self._rules:
            return rules
        now = self._now()
        with self._lock:
            live = tuple(r for r, end in self._rules.items() if end is None or now < end)
        return EgressRules(rules=(*rules.rules, *live))
