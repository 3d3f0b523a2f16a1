"""What a run's calls of models have used together, and whether its budget has room for one more."""

import math
import threading
from dataclasses import asdict, dataclass

from policies.connections import LlmAccess
from policies.prices import Price, Tokens, price_of
from runner.inside.wire import Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    limit_usd: float
    spent_usd: float
    """By earlier attempts at the same thing."""


def budget_from_json(data: object) -> Budget | None:
    """None if anything in it is not right."""
    if not isinstance(data, dict):
        return None
    limit, spent = _amount(data.get("limit_usd")), _amount(data.get("spent_usd"))
    return None if limit is None or spent is None else Budget(limit_usd=limit, spent_usd=spent)


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return float(value)


class Call:
    """One call of a model. What it used so far may be booked as often as it changes."""

    def __init__(self, access: LlmAccess, *, model: str, price: Price) -> None:
        self.access = access
        self.model = model
        self.price = price
        self.booked = Tokens()


class Ledger:
    """Totals last as long as the gateway, whatever policy comes; every change is a line that holds all of them."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._lock = threading.Lock()
        self._budget = Budget(limit_usd=0, spent_usd=0)
        self._calls = 0
        self._tokens = Tokens()
        self._known_usd = 0.0
        self._counted_usd = 0.0
        self._unknown = False
        self._told = False

    def limit(self, budget: Budget) -> None:
        with self._lock:
            self._budget = budget

    def refusal(self) -> str | None:
        """Why no further call may be made, or None. The first time it says so in the transcript."""
        with self._lock:
            limit, spent = self._budget.limit_usd, self._budget.spent_usd + self._counted_usd
            if spent < limit:
                return None
            if not self._told:
                self._told = True
                self._transcript.write("budget", limit_usd=limit, spent_usd=round(spent, 6))
        return f"the budget of ${limit:.2f} for this task is used up (${spent:.2f} spent)"

    def open(self, access: LlmAccess, model: str) -> Call | None:
        """None for a model without any price, which no policy has."""
        price = price_of(access.prices, model)
        return None if price is None else Call(access, model=model, price=price)

    def book(self, call: Call, tokens: Tokens) -> None:
        """All that a call has used so far."""
        with self._lock:
            if tokens == call.booked:
                return
            first = call.booked == Tokens()
            self._add(call, tokens, first=first)
            call.booked = tokens
            self._transcript.write(
                "usage",
                connection=call.access.name,
                model=call.model,
                calls=self._calls,
                **asdict(self._tokens),
                cost_usd=None if self._unknown else round(self._known_usd, 6),
                counted_usd=round(self._counted_usd, 6),
            )

    def _add(self, call: Call, tokens: Tokens, *, first: bool) -> None:
        before, now = asdict(call.booked), asdict(tokens)
        more = {name: now[name] - before[name] for name in now}
        self._tokens = self._tokens.plus(Tokens(**more))
        cost = call.price.of(tokens) - call.price.of(call.booked)
        self._calls += first
        self._counted_usd += cost
        if call.price.known:
            self._known_usd += cost
        else:
            self._unknown = True
