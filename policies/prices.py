"""What tokens cost. Standard library only: see egress.py."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase

_MILLION = 1_000_000
_DEAREST = 100_000
"""No price per million tokens is higher, and no limit on a prompt or factor need be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What one call used. `input` is what came from no cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_hour: int = 0
    """Written to a cache that keeps it for an hour, and costs more."""

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_hour

    def plus(self, other: "Tokens") -> "Tokens":
        mine, theirs = asdict(self), asdict(other)
        return Tokens(**{name: mine[name] + theirs[name] for name in mine})

    def at_least(self, other: "Tokens") -> "Tokens":
        """The larger of each: what is told several times in a call is told as a total."""
        mine, theirs = asdict(self), asdict(other)
        return Tokens(**{name: max(mine[name], theirs[name]) for name in mine})


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for a million tokens of the models that a pattern names."""

    model: str
    input: float
    output: float
    cache_read: float
    cache_write: float
    cache_write_hour: float
    over: int = 0
    """A call with a longer prompt than this costs `times` as much; 0 is no such limit."""
    times: float = 1.0
    known: bool = True
    """False for a guess that errs on the dear side: good for a budget, no cost to show."""

    def of(self, tokens: Tokens) -> float:
        """What one call costs."""
        factor = self.times if self.over and tokens.prompt > self.over else 1.0
        sums = (
            tokens.input * self.input,
            tokens.output * self.output,
            tokens.cache_read * self.cache_read,
            tokens.cache_write * self.cache_write,
            tokens.cache_write_hour * self.cache_write_hour,
        )
        return factor * sum(sums) / _MILLION


def price_of(prices: Iterable[Price], model: str) -> Price | None:
    """The first whose pattern fits."""
    return next((price for price in prices if fnmatchcase(model, price.model)), None)


def prices_from_json(data: object) -> tuple[Price, ...] | None:
    """None if anything in it is not right, or a model could be named that has no price."""
    if not isinstance(data, list):
        return None
    found = [_price(item) for item in data]
    prices = tuple(price for price in found if price is not None)
    complete = len(prices) == len(found) and any(price.model == "*" for price in prices)
    return prices if complete else None


def _price(data: object) -> Price | None:
    if not isinstance(data, Mapping) or {f.name for f in fields(Price)} != data.keys():
        return None
    numbers = [data[f.name] for f in fields(Price) if f.name not in {"model", "known"}]
    if not isinstance(data["model"], str) or not isinstance(data["known"], bool):
        return None
    if not all(_is_price(number) for number in numbers) or type(data["over"]) is not int:
        return None
    return Price(**data)


def _is_price(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return 0 <= number <= _DEAREST * 100
