"""How often a message may be edited: what Slack asks for, and more where it has said that this was too often."""

import time
from collections.abc import Callable
from dataclasses import dataclass

USUAL_SECONDS = 6.0
"""Slack allows three; this leaves room for all else in a dozen calls a minute, however busy an errand is."""
SLOWEST_SECONDS = 60.0
FORGET_SECONDS = 300.0
"""So long after the last complaint the usual pace is tried again."""


@dataclass(slots=True)
class Pace:
    clock: Callable[[], float] = time.monotonic
    _seconds: float = USUAL_SECONDS
    _complained_at: float = float("-inf")

    @property
    def seconds(self) -> float:
        if self.clock() - self._complained_at >= FORGET_SECONDS:
            self._seconds = USUAL_SECONDS
        return self._seconds

    def too_fast(self, retry_after: float) -> None:
        """We came this much too early."""
        self._seconds = min(SLOWEST_SECONDS, self.seconds + retry_after)
        self._complained_at = self.clock()
