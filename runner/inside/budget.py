"""How much a run may move, and how fast it may begin: what is let through is still limited."""

import threading
import time
from collections.abc import Callable

from policies.egress import Allow
from runner.inside.errors import EgressDeniedError

DOWNLOAD_BYTES = 20 * 1024**3
"""Of a whole run."""
CONNECTIONS_A_SECOND = 20
CONNECTIONS_AT_ONCE = 64


class Budget:
    """Bytes of one run: up by host, down altogether."""

    def __init__(self, *, download_bytes: int = DOWNLOAD_BYTES) -> None:
        self._lock = threading.Lock()
        self._sent: dict[str, int] = {}
        self._left = download_bytes

    def left(self, allow: Allow) -> int:
        with self._lock:
            return max(0, allow.upload - self._sent.get(allow.host, 0))

    def send(self, allow: Allow, count: int) -> None:
        """Before so many bytes are sent. Raises EgressDeniedError."""
        with self._lock:
            sent = self._sent.get(allow.host, 0) + count
            if sent > allow.upload:
                raise EgressDeniedError(
                    f"this run may send {allow.upload} bytes to {allow.host}, and they are used up",
                    rule=allow.rule,
                )
            self._sent[allow.host] = sent

    def receive(self, allow: Allow, count: int) -> None:
        """After so many bytes were received. Raises EgressDeniedError."""
        with self._lock:
            self._left -= count
            if self._left < 0:
                raise EgressDeniedError("this run has received all it may", rule=allow.rule)


class Pace:
    """A bucket that fills steadily: so many at once, and then so many a second."""

    def __init__(
        self,
        *,
        a_second: float = CONNECTIONS_A_SECOND,
        at_once: int = CONNECTIONS_AT_ONCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._a_second = a_second
        self._at_once = at_once
        self._now = now
        self._filled = float(at_once)
        self._at = now()

    def wait_seconds(self) -> float:
        """Take one; how long to wait before it is used."""
        now = self._now()
        self._filled = min(self._at_once, self._filled + (now - self._at) * self._a_second) - 1
        self._at = now
        return max(0.0, -self._filled / self._a_second)
