"""Spans of a task's way through the processes, without any library: a port, and what stands in for it.

A task's trace follows from its id, so every process that knows the task knows its trace: nothing else has to travel
with deliveries, rows, launches and events, and nothing has to be kept.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

Attribute = str | int | float | bool
_SAMPLED: Final = "01"


@dataclass(frozen=True, slots=True)
class TraceOfTask:
    """W3C Trace Context of a task: its trace, and the span that all others hang from."""

    trace_id: int
    span_id: int

    @classmethod
    def of(cls, task: str) -> "TraceOfTask":
        digest = hashlib.sha256(f"trace of {task}".encode()).digest()
        return cls(int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big"))

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{_SAMPLED}"


class Tracing(Protocol):
    """Where spans go. No method waits or fails."""

    def span(
        self, name: str, *, task: str, **attributes: Attribute
    ) -> AbstractContextManager[None]:
        """A span for as long as the block runs, within the one around it if that is of the same task."""

    def tell(
        self,
        name: str,
        *,
        task: str,
        start: datetime,
        end: datetime,
        root: bool = False,
        **attributes: Attribute,
    ) -> None:
        """A span of the past; `root` is the one that all others of the task hang from."""


class NoTracing:
    """Tells nobody."""

    @contextmanager
    def span(self, name: str, *, task: str, **attributes: Attribute) -> Iterator[None]:
        yield

    def tell(
        self,
        name: str,
        *,
        task: str,
        start: datetime,
        end: datetime,
        root: bool = False,
        **attributes: Attribute,
    ) -> None:
        """Nothing."""
