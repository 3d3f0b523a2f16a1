"""Spans reach a collector over OTLP, with the key it wants; a collector that is away holds nothing up."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr
from typing_extensions import override

from bot.settings import OtelSettings
from bot.tracing import open_tracing
from runner.tracing import TraceOfTask
from tests.support.ports import free_port

TASK = "01kb1xyz0000000000000000aa"


class Collector(BaseHTTPRequestHandler):
    received: list[tuple[str, str | None, ExportTraceServiceRequest]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        self.received.append((self.path, self.headers.get("x-key"), request))
        self.send_response(200)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def a_collector() -> Iterator[tuple[str, type[Collector]]]:
    class Mine(Collector):
        received: list[tuple[str, str | None, ExportTraceServiceRequest]] = []  # noqa: RUF012 - one per server

    with HTTPServer(("127.0.0.1", 0), Mine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", Mine
        finally:
            server.shutdown()
            thread.join()


async def test_spans_reach_the_collector_at_the_end_at_the_latest() -> None:
    with a_collector() as (url, collector):
        settings = OtelSettings(endpoint=f"{url}/", headers=SecretStr("x-key=abc, other=1"))
        async with open_tracing(settings, service="errand-work") as tracing:
            with tracing.span("launch", task=TASK, fence=1):
                pass
    [(path, key, request)] = collector.received
    assert (path, key) == ("/v1/traces", "abc")
    [resource] = request.resource_spans
    service = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert service["service.name"] == "errand-work"
    [span] = resource.scope_spans[0].spans
    assert span.name == "launch"
    assert span.trace_id.hex() == f"{TraceOfTask.of(TASK).trace_id:032x}"


async def test_a_collector_that_is_away_holds_nothing_up() -> None:
    settings = OtelSettings(endpoint=f"http://127.0.0.1:{free_port()}")
    async with open_tracing(settings, service="errand-serve") as tracing:
        with tracing.span("publish", task=TASK):
            pass
