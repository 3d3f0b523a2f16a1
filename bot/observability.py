"""Logs: one line per thing that happened, without secrets."""

import logging
import re
import sys

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, WrappedLogger

TOKEN_SHAPES = re.compile(
    r"xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}|gh[opusr]_\w{16,}|github_pat_\w{16,}|sk-[\w-]{16,}"
    r"|(?i:bearer|basic)\s+[\w+/=._-]{12,}"
)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take secrets and what looks like a token out of a log line."""
    for key, value in event.items():
        if isinstance(value, SecretStr):
            event[key] = "[secret]"
        elif isinstance(value, str):
            event[key] = TOKEN_SHAPES.sub("[secret]", value)
    return event


def set_up_logs(*, json: bool | None, level: str = "info") -> None:
    """Configure structlog and the libraries' loggers, once per process."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=True)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
