"""The list of prices that comes with Errand, and what a policy sets before it."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.prices import Price

PACKAGED = Path(__file__).with_name("prices.yml")
_WRITE = 1.25
_WRITE_HOUR = 2.0


class ModelPrice(BaseModel):
    """US dollars for a million tokens of the models that a pattern names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str = Field(min_length=1)
    """A name, or a pattern with `*`."""
    input: float = Field(ge=0, le=100_000, allow_inf_nan=False)
    output: float = Field(ge=0, le=100_000, allow_inf_nan=False)
    cache_read: float | None = Field(default=None, ge=0, le=100_000, allow_inf_nan=False)
    """If left out, as `input`."""
    cache_write: float | None = Field(default=None, ge=0, le=100_000, allow_inf_nan=False)
    """If left out, a quarter more than `input`."""
    cache_write_hour: float | None = Field(default=None, ge=0, le=100_000, allow_inf_nan=False)
    """For a cache that is kept for an hour; if left out, twice `input`."""
    over: int = Field(default=0, ge=0, le=10_000_000)
    """Calls with a longer prompt than so many tokens cost `times` as much."""
    times: float = Field(default=1.0, ge=1, le=100, allow_inf_nan=False)

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if bool(self.over) != (self.times != 1):
            raise ValueError("`over` and `times` belong together")
        return self

    def price(self) -> Price:
        read, write, hour = self.cache_read, self.cache_write, self.cache_write_hour
        return Price(
            model=self.model,
            input=self.input,
            output=self.output,
            cache_read=self.input if read is None else read,
            cache_write=_WRITE * self.input if write is None else write,
            cache_write_hour=_WRITE_HOUR * self.input if hour is None else hour,
            over=self.over,
            times=self.times,
        )


@functools.cache
def _packaged() -> dict[str, tuple[Price, ...]]:
    data = yaml.safe_load(PACKAGED.read_text())
    guess = replace(ModelPrice.model_validate(data.pop("unknown")).price(), known=False)
    return {
        dialect: (*(ModelPrice.model_validate(row).price() for row in rows), guess)
        for dialect, rows in data.items()
    }


def prices_for(dialect: str, own: Sequence[ModelPrice]) -> list[dict[str, Any]]:
    """All that a gateway needs to price calls of a dialect; `own` are the policy's, which come first."""
    return [asdict(price) for price in (*(p.price() for p in own), *_packaged()[dialect])]
