"""`work` answers Prometheus where it is told to, and nowhere else."""

import socket

import httpx
import pytest

from bot.errors import SetupError
from bot.settings import WorkSettings
from bot.work_metrics import WorkMetrics, answering
from tests.support.ports import free_port


def test_it_answers_for_as_long_as_it_should() -> None:
    metrics, port = WorkMetrics(), free_port()
    metrics.slots(slots=4, free=3, draining=False)
    with answering(WorkSettings(metrics_port=port), metrics.registry):
        assert "errand_work_free 3.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_it_is_off_by_default() -> None:
    with answering(WorkSettings(), WorkMetrics().registry):
        pass


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = WorkSettings(metrics_port=taken.getsockname()[1])
        with (
            pytest.raises(SetupError, match="ERRAND_WORK__METRICS_PORT"),
            answering(settings, WorkMetrics().registry),
        ):
            pass
