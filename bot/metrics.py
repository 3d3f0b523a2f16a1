"""What `serve` counts for Prometheus, after the COMMIT of what it counts."""

from datetime import datetime
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

from bot import buckets
from bot.store.rows import RunRow


class Metrics:
    """Counters in a registry of its own, or in one that is shared with a worker in the same process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.deliveries = counter("errand_deliveries", "Deliveries dealt with", ["outcome"])
        self.launches = counter("errand_launches", "Runs that were queued for workers")
        self.runs = counter("errand_runs", "Runs that ended", ["agent", "outcome"])
        self.cost = counter("errand_cost_usd", "Cost of ended runs, where known", ["agent"])
        self.tokens = counter("errand_tokens", "Tokens of ended runs", ["agent", "direction"])
        self.egress = counter("errand_egress", "Decisions of the gateways", ["verdict"])
        self.publications = counter("errand_publications", "Tries to publish", ["outcome"])
        self.messages = counter("errand_messages", "Tries to send", ["destination", "outcome"])
        self.rate_limit_wait = counter(
            "errand_rate_limit_wait_seconds", "What destinations asked to wait", ["destination"]
        )
        self.loop_failures = counter(
            "errand_loop_failures", "Loops of serve that failed and began again", ["loop"]
        )
        self.pruned = counter("errand_pruned", "What was older than it is kept", ["what"])
        self.delivery_seconds = histogram(
            "errand_delivery_seconds",
            "From a delivery's arrival until it was dealt with",
            buckets=buckets.QUICK,
        )
        self.start_seconds = histogram(
            "errand_start_seconds", "From launch to an agent at work", buckets=buckets.QUICK
        )
        self.run_seconds = histogram(
            "errand_run_seconds", "From a run's start to its end", ["outcome"], buckets=buckets.RUN
        )

    def delivery(self, outcome: str, *, seconds: float) -> None:
        self.deliveries.labels(outcome).inc()
        self.delivery_seconds.observe(max(0.0, seconds))

    def run_started(self, run: RunRow) -> None:
        if run.started_at is not None:
            waited = run.started_at - run.queued_at
            self.start_seconds.observe(max(0.0, waited.total_seconds()))

    def run_ended(self, run: RunRow, *, outcome: str, at: datetime) -> None:
        agent = run.agent or "none"
        self.runs.labels(agent, outcome).inc()
        if run.started_at is not None:
            took = (at - run.started_at).total_seconds()
            self.run_seconds.labels(outcome).observe(max(0.0, took))
        self.cost.labels(agent).inc(run.view.get("cost_usd") or 0.0)
        for direction in ("input", "output"):
            number = run.view.get(f"{direction}_tokens") or 0
            self.tokens.labels(agent, direction).inc(number)
