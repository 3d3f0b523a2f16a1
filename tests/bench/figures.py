"""What was measured, as data: the file `bench/results.json` and the table."""

import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

PERCENT = 100


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sample(_Value):
    """Many measurements of one thing."""

    what: str
    count: int
    p50: float
    p95: float
    p99: float
    least: float
    most: float


class Aim(_Value):
    """What the figure should be; `met` says if it is."""

    text: str
    value: float
    limit: float
    met: bool


class Figure(_Value):
    name: str
    unit: Literal["ms", "1/s", "1/min", "requests", "MiB", "MB/s"]
    ours: Sample
    baseline: Sample | None = None
    """Measured in turns with ours, in the same session."""
    ratio: float | None = None
    """Our median to the baseline's; for rates the median of the rounds' ratios."""
    aims: tuple[Aim, ...] = ()
    note: str = ""


class Machine(_Value):
    system: str
    cpu: str
    cores: int
    memory_gib: float
    load_before: float
    load_after: float


class Results(_Value):
    at: datetime
    commit: str
    changed: bool
    """There were changes beyond the commit."""
    machine: Machine
    versions: dict[str, str]
    figures: tuple[Figure, ...]


def sample(what: str, values: Sequence[float]) -> Sample:
    return Sample(
        what=what,
        count=len(values),
        p50=_rounded(statistics.median(values)),
        p95=_rounded(percentile(values, 95)),
        p99=_rounded(percentile(values, 99)),
        least=_rounded(min(values)),
        most=_rounded(max(values)),
    )


def percentile(values: Sequence[float], rank: int) -> float:
    """Linear between neighbours; the only value where there is one."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=PERCENT, method="inclusive")[rank - 1]


def at_most(text: str, value: float, limit: float) -> Aim:
    return Aim(text=text, value=_rounded(value), limit=_rounded(limit), met=value <= limit)


def at_least(text: str, value: float, limit: float) -> Aim:
    return Aim(text=text, value=_rounded(value), limit=_rounded(limit), met=value >= limit)


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the rounds' ratios: what slows both in one round changes nothing."""
    return _rounded(statistics.median(a / b for a, b in zip(ours, baseline, strict=True)))


def _rounded(value: float) -> float:
    """Three figures are more than a shared machine can repeat."""
    return float(f"{value:.3g}") if value < 1000 else float(round(value))
