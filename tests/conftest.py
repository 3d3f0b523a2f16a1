"""What holds for every test."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# The machines are noisy: how long an example takes says nothing about the code.
settings.register_profile("errand", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("errand")


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Tracebacks in colour take seconds."""
    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.configure(**before)
