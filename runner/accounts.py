"""What is counted, traced and told of a run that came to its end on this host."""

from datetime import UTC, datetime

import structlog

from runner.protocol import EventRecord, Finished, RunKey
from runner.station import Station

log = structlog.get_logger()


def account(station: Station, run: RunKey, finished: Finished, started: EventRecord | None) -> None:
    """`started`: its beginning, if it came so far."""
    now = datetime.now(UTC)
    began = started.at if started is not None else now
    seconds = max(0.0, (now - began).total_seconds())
    station.meter.run_ended(finished.outcome, seconds=seconds)
    station.tracing.tell(
        "run",
        task=run.task,
        start=began,
        end=now,
        fence=run.fence,
        host=station.host,
        outcome=finished.outcome,
    )
    log.info("run_ended", run=str(run), outcome=finished.outcome, seconds=round(seconds, 3))
