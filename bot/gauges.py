"""What is looked up when Prometheus asks: how much waits where, and for how long."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from bot.bus import Traffic
from bot.store.figures import Figures

UNKNOWN: Final = math.nan
"""What a gauge says when nobody could be asked: better than what was true some time ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen at one time."""

    now: datetime
    figures: Figures | None
    """None: the database does not answer."""
    traffic: Traffic | None
    """None: Redis does not answer."""
    destinations: tuple[str, ...] = ()
    connected: Mapping[str, bool | None] = field(default_factory=dict)
    """By channel; None where there is no connection to keep."""

    def seconds_since(self, then: datetime | None) -> float:
        """0 if nothing waits."""
        return 0.0 if then is None else max(0.0, (self.now - then).total_seconds())


class Gauges:
    """Those of one `serve`, in its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._up = gauge("errand_up", "1 if this part answers", ["part"])
        self._tasks = gauge("errand_tasks", "Tasks that have not ended", ["state"])
        self._queue_oldest = gauge(
            "errand_queue_oldest_seconds", "How long the first task waits that could start"
        )
        self._held = gauge("errand_tasks_held", "Queued tasks that wait for other tickets")
        self._inbox_new = gauge("errand_inbox_new", "Deliveries that are not dealt with")
        self._inbox_oldest = gauge("errand_inbox_oldest_seconds", "How long the oldest waits")
        self._inbox_dead = gauge("errand_inbox_dead", "Deliveries that failed for good")
        self._outbox_pending = gauge("errand_outbox_pending", "Messages that wait to be sent")
        self._outbox_oldest = gauge(
            "errand_outbox_oldest_seconds", "How long the oldest waits that was never sent"
        )
        self._outbox_dead = gauge("errand_outbox_dead", "Messages that failed for good")
        self._stopped = gauge(
            "errand_destination_stopped",
            "1 while a destination refuses our credential",
            ["destination"],
        )
        self._connected = gauge(
            "errand_channel_connected",
            "1 while the connection by which it hears is up",
            ["channel"],
        )
        self._events = gauge("errand_events_waiting", "Events that are not applied yet")
        self._launches = gauge("errand_launches_waiting", "Launches that no worker has taken")
        self._slots = gauge("errand_host_slots", "Runs that a host takes at once", ["host"])
        self._free = gauge("errand_host_free", "How many more it would take now", ["host"])

    def show(self, sight: Sight) -> None:
        self._up.labels("database").set(sight.figures is not None)
        self._up.labels("redis").set(sight.traffic is not None)
        for channel, connected in sight.connected.items():
            if connected is not None:
                self._connected.labels(channel).set(connected)
        self._show_figures(sight, sight.figures)
        self._show_traffic(sight.traffic)

    def _show_figures(self, sight: Sight, found: Figures | None) -> None:
        self._tasks.clear()
        self._show_stopped(sight, None if found is None else found.stopped)
        if found is None:
            _forget(self._queue_oldest, self._held, self._inbox_new, self._inbox_oldest, self._inbox_dead,
                    self._outbox_pending, self._outbox_oldest, self._outbox_dead)  # fmt: skip
            return
        for state, number in found.tasks.items():
            self._tasks.labels(state).set(number)
        self._queue_oldest.set(sight.seconds_since(found.queued_since))
        self._held.set(found.held)
        self._inbox_new.set(found.inbox_new)
        self._inbox_oldest.set(sight.seconds_since(found.inbox_since))
        self._inbox_dead.set(found.inbox_dead)
        self._outbox_pending.set(found.outbox_pending)
        self._outbox_oldest.set(sight.seconds_since(found.outbox_since))
        self._outbox_dead.set(found.outbox_dead)

    def _show_stopped(self, sight: Sight, stopped: frozenset[str] | None) -> None:
        """Workspaces have one while they stand still; who is asked nothing of has none."""
        self._stopped.clear()
        for name in (*sight.destinations, *(stopped or ())):
            value = UNKNOWN if stopped is None else float(name in stopped)
            self._stopped.labels(name).set(value)

    def _show_traffic(self, found: Traffic | None) -> None:
        self._slots.clear()
        self._free.clear()
        if found is None:
            _forget(self._events, self._launches)
            return
        self._events.set(found.events)
        self._launches.set(found.launches)
        for host in found.hosts:
            self._slots.labels(host.host).set(host.slots)
            self._free.labels(host.host).set(host.free)


def _forget(*gauges: Gauge) -> None:
    for gauge in gauges:
        gauge.set(UNKNOWN)
