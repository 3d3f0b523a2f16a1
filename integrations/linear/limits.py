"""How much of Linear's rate limits is left."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

LITTLE = 0.1


@dataclass(slots=True)
class LimitWatch:
    """Says in the log when a limit comes near: once, until there is room again."""

    near: set[str] = field(default_factory=set)

    def saw(self, headers: Mapping[str, str]) -> None:
        """`headers` of an answer, with names in small letters."""
        for name, value in headers.items():
            if name.startswith("x-ratelimit-") and name.endswith("-limit"):
                self._compare(name.removesuffix("-limit"), value, headers)

    def _compare(self, name: str, limit: str, headers: Mapping[str, str]) -> None:
        left = headers.get(f"{name}-remaining", "")
        if not (left.isdecimal() and limit.isdecimal() and int(limit)):
            return
        if int(left) >= LITTLE * int(limit):
            self.near.discard(name)
        elif name not in self.near:
            self.near.add(name)
            log.warning("linear_limit_near", limit=name, remaining=int(left), of=int(limit))
