"""One line in the log, and a count, for each thing that was finished: a delivery, a run. Called after the COMMIT."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from bot.metrics import Metrics
from bot.store.rows import InboxRow, RunRow, TaskRow
from runner.protocol import Egress, EventRecord, Finished, Started
from runner.tracing import NoTracing, Tracing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """Tells of deliveries that were dealt with."""

    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=NoTracing)

    def with_delivery(
        self, row: InboxRow, task: TaskRow | None, *, outcome: str, now: datetime
    ) -> None:
        inbound, seconds = row.inbound, (now - row.received_at).total_seconds()
        self.metrics.delivery(outcome, seconds=seconds)
        log.info(
            "delivery_handled",
            outcome=outcome,
            inbox=row.id,
            event_id=inbound.event_id,
            conversation=inbound.conversation.key,
            task=task.id if task else "",
            tries=row.tries,
            seconds=round(seconds, 3),
        )
        if task is not None and outcome == "done":
            origin = f"{inbound.conversation.channel}:{inbound.semantic_key}"
            begins = task.origin == origin
            name = "errand" if begins else "delivery"
            self.tracing.tell(name, task=task.id, start=row.received_at, end=now, root=begins)


def account(metrics: Metrics, run: RunRow, new: Iterable[EventRecord]) -> None:
    """Tell of events that were applied for the first time; `run` is as they left it."""
    for item in new:
        match item.event:
            case Started():
                metrics.run_started(run)
            case Egress(verdict=verdict):
                metrics.egress.labels(verdict).inc()
            case Finished() as finished:
                metrics.run_ended(run, outcome=finished.outcome, at=item.at)
                _say_run_ended(run, finished, item.at)
            case _:
                pass


def _say_run_ended(run: RunRow, finished: Finished, at: datetime) -> None:
    log.info(
        "run_finished",
        task=run.task,
        fence=run.fence,
        host=run.host,
        agent=run.agent,
        outcome=finished.outcome,
        ours=finished.infrastructure,
        changed=finished.changed,
        seconds=run.elapsed_seconds(at),
        cost_usd=run.view.get("cost_usd"),
        input_tokens=run.view.get("input_tokens"),
        output_tokens=run.view.get("output_tokens"),
        denied=len(run.view.get("denied", ())),
    )
