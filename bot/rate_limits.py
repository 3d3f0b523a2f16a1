"""What services ask us to wait: by API, workspace, method and place, so that nothing else waits along."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from bot.intake import utc_now
from integrations.channel import Conversation
from integrations.errors import RateLimitedError

Method = Literal["post", "edit", "mark", "find"]
SPREAD = 0.1
"""What waited for the same bucket does not come back at the same moment."""

_Bucket = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One that is about to be made, as far as limits tell calls apart."""

    to: Conversation
    method: Method

    @property
    def buckets(self) -> tuple[_Bucket, _Bucket, _Bucket]:
        """Those that it takes from, the widest first: of its workspace, its method there, and that in its place."""
        workspace = (self.to.channel, self.to.team)
        method = (*workspace, self.method)
        return workspace, method, (*method, self.to.place)


@dataclass(slots=True, kw_only=True)
class Buckets:
    """Which are empty, and until when. Each process learns of it by itself: one call tells it."""

    now: Callable[[], datetime] = utc_now
    _until: dict[_Bucket, datetime] = field(default_factory=dict)

    def wait_seconds(self, call: Call) -> float:
        """How long this call would be in vain; 0 if nobody asked to wait."""
        now = self.now()
        self._until = {bucket: until for bucket, until in self._until.items() if until > now}
        until = max(self._until.get(bucket, now) for bucket in call.buckets)
        return (until - now).total_seconds()

    def empty(self, call: Call, error: RateLimitedError) -> None:
        """It was refused for now; what it took from is said by who refused it."""
        workspace, method, place = call.buckets
        bucket = {"workspace": workspace, "method": method, "place": place}[error.scope]
        self._until[bucket] = self.now() + timedelta(seconds=error.retry_after)


def jittered(seconds: float) -> float:
    """A little longer than asked for, each time by another bit."""
    return seconds * random.uniform(1, 1 + SPREAD)  # noqa: S311  no secret
