"""Logs: one line per thing that happened, without secrets."""

import logging
import re
import sys
from collections.abc import Sequence

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SECRET = "[secret]"  # noqa: S105 - what stands in the place of one
TOKEN_SHAPES = re.compile(
    r"xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}|gh[opusr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|sk-[\w-]{16,}|lin_(?:api|oauth)_\w{16,}|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+"
    r"|(?i:bearer|basic)\s+[\w+/=._~-]{12,}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)


def redact(_logger: WrappedLogger, _method: str, line: EventDict | str) -> str:
    """Take what looks like a credential out of a finished line, wherever in it; a `SecretStr` masks itself."""
    return TOKEN_SHAPES.sub(SECRET, str(line))


def set_up_logs(*, json: bool | None, level: str = "info") -> None:
    """Make structlog and the libraries' loggers write to standard error, in one form. Once per process, or again."""
    as_json = not sys.stderr.isatty() if json is None else json
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    )
    last: Sequence[Processor] = (*_rendering(as_json=as_json), redact)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    theirs = logging.StreamHandler(sys.stderr)
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=max(logging.WARNING, threshold), handlers=[theirs], force=True)


def _rendering(*, as_json: bool) -> Sequence[Processor]:
    if as_json:
        return (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    return (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    )
