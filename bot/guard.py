"""Among many things, one that breaks keeps back none of the others."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from bot.metrics import Metrics

log = structlog.get_logger()


@contextmanager
def others_go_on(
    loop: str, metrics: Metrics, *passing: type[Exception], **about: str
) -> Iterator[None]:
    """Whatever breaks inside is counted and told of, as `<loop>_broke`; what is `passing` is raised."""
    event = f"{loop}_broke"
    try:
        yield
    except passing:
        raise
    except Exception:  # whatever it was
        metrics.loop_failures.labels(loop).inc()
        log.exception(event, **about)
