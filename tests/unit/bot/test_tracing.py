"""Traces: a task's is known to whoever knows the task, and nothing that people wrote is in it."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from bot import tracing as wired
from bot.errors import SetupError
from bot.otel import OtelTracing
from bot.settings import OtelSettings
from runner.tracing import NoTracing, TraceOfTask

TASK, OTHER = "01kb1xyz0000000000000000aa", "01kb1xyz0000000000000000bb"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Collected:
    """Two processes with a collector in common."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.serve, self.work = (self._process(name) for name in ("errand-serve", "errand-work"))

    def _process(self, service: str) -> OtelTracing:
        return OtelTracing(SimpleSpanProcessor(self.exporter), service=service, version="1")

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def collected() -> Collected:
    return Collected()


def test_spans_of_both_processes_hang_from_one_root(collected: Collected) -> None:
    collected.serve.tell("errand", task=TASK, start=AT, end=AT + timedelta(seconds=1), root=True)
    with collected.work.span("launch", task=TASK):
        pass
    with collected.serve.span("publish", task=TASK), collected.serve.span("push", task=TASK):
        pass
    spans = collected.spans()
    root = spans["errand"]
    assert root.parent is None
    assert {span.context.trace_id for span in spans.values() if span.context} == {
        TraceOfTask.of(TASK).trace_id
    }
    assert root.context is not None
    for name in ("launch", "publish"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == root.context.span_id
    publish, push = spans["publish"].context, spans["push"].parent
    assert publish is not None
    assert push is not None
    assert push.span_id == publish.span_id


def test_another_task_within_is_not_drawn_into_the_trace(collected: Collected) -> None:
    with collected.work.span("run", task=TASK), collected.work.span("launch", task=OTHER):
        pass
    launch = collected.spans()["launch"].context
    assert launch is not None
    assert launch.trace_id == TraceOfTask.of(OTHER).trace_id


def test_a_span_of_the_past_has_its_own_times(collected: Collected) -> None:
    collected.serve.tell("queue", task=TASK, start=AT, end=AT + timedelta(seconds=3), fence=2)
    span = collected.spans()["queue"]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 3_000_000_000
    assert dict(span.attributes or {}) == {"errand.task": TASK, "fence": 2}


def test_an_error_is_told_by_its_class_alone(collected: Collected) -> None:
    def fails() -> None:
        with collected.work.span("prepare", task=TASK):
            raise ValueError("what dana wrote")

    with pytest.raises(ValueError, match="dana"):
        fails()
    span = collected.spans()["prepare"]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert "dana" not in span.to_json()


def test_the_trace_of_a_task_is_always_the_same() -> None:
    assert TraceOfTask.of(TASK) == TraceOfTask.of(TASK)
    assert TraceOfTask.of(TASK) != TraceOfTask.of(OTHER)
    version, trace, span, flags = TraceOfTask.of(TASK).traceparent.split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")


async def test_without_a_collector_nothing_is_traced() -> None:
    async with wired.open_tracing(OtelSettings(), service="errand-serve") as tracing:
        assert isinstance(tracing, NoTracing)


async def test_a_collector_without_the_library_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bot.otel", None)
    settings = OtelSettings(endpoint="http://127.0.0.1:4318")
    with pytest.raises(SetupError, match=r"errand\[otel\]"):
        async with wired.open_tracing(settings, service="errand-serve"):
            pass
