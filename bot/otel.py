"""Spans to an OpenTelemetry collector. Needs the extra `otel`; `bot.tracing` alone imports this."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, StatusCode, TraceFlags
from typing_extensions import override

from runner.tracing import Attribute, TraceOfTask

EXPORT_SECONDS: Final = 5
_NANOSECONDS: Final = 1_000_000_000
_root: ContextVar[TraceOfTask | None] = ContextVar("root", default=None)


class _Ids(RandomIdGenerator):
    """Random, but for the root of a task's trace."""

    @override
    def generate_trace_id(self) -> int:
        root = _root.get()
        return super().generate_trace_id() if root is None else root.trace_id

    @override
    def generate_span_id(self) -> int:
        root = _root.get()
        return super().generate_span_id() if root is None else root.span_id


def batches_to(endpoint: str, headers: str) -> SpanProcessor:
    """Sends spans from a thread of its own; what a collector does not take is dropped."""
    pairs = (pair.partition("=") for pair in headers.split(",") if pair.strip())
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces",
        headers={name.strip(): value.strip() for name, _, value in pairs},
        timeout=EXPORT_SECONDS,
    )
    return BatchSpanProcessor(exporter, export_timeout_millis=EXPORT_SECONDS * 1000)


class OtelTracing:
    """A `runner.tracing.Tracing`. Errors are told by their class alone: their words may be people's."""

    def __init__(self, processor: SpanProcessor, *, service: str, version: str) -> None:
        resource = Resource({"service.name": service, "service.version": version})
        self._provider = TracerProvider(
            resource=resource, id_generator=_Ids(), sampler=ALWAYS_ON, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("errand")

    def close(self) -> None:
        """Send what is left. Blocks for seconds."""
        self._provider.shutdown()

    @contextmanager
    def span(self, name: str, *, task: str, **attributes: Attribute) -> Iterator[None]:
        with ExitStack() as stack:
            span = self._tracer.start_as_current_span(
                name,
                context=_within(task),
                attributes={"errand.task": task, **attributes},
                record_exception=False,
                set_status_on_exception=False,
            )
            stack.push(partial(_note_error, stack.enter_context(span)))
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
        token = _root.set(TraceOfTask.of(task) if root else None)
        try:
            span = self._tracer.start_span(
                name,
                context=Context() if root else _under_root(task),
                start_time=_nanoseconds(start),
                attributes={"errand.task": task, **attributes},
            )
            span.end(_nanoseconds(max(start, end)))
        finally:
            _root.reset(token)


def _note_error(span: Span, kind: type[BaseException] | None, *_: object) -> None:
    if kind is not None:
        span.set_status(StatusCode.ERROR, kind.__name__)


def _within(task: str) -> Context | None:
    """None is the context that is there."""
    current = trace.get_current_span().get_span_context()
    return None if current.trace_id == TraceOfTask.of(task).trace_id else _under_root(task)


def _under_root(task: str) -> Context:
    known = TraceOfTask.of(task)
    root = SpanContext(
        known.trace_id, known.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return trace.set_span_in_context(NonRecordingSpan(root), Context())


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * _NANOSECONDS)
