"""Structured logs: coloured lines on a terminal, one JSON object a line elsewhere."""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from barwright.settings import Settings

# Tracebacks without local variables: a DSN among them holds a password.
_CONSOLE = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))

_KEY = re.compile(r"(bw_[a-z2-7]{8}_)[A-Za-z0-9_-]{43}")  # of the API: whatever holds one, a line shows its prefix


def configure(settings: Settings, role: str) -> None:
    """Send this process's logs to standard error in the format the settings ask for, each line naming its role."""
    human = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer = _CONSOLE if human else structlog.processors.JSONRenderer()
    level = logging.getLevelNamesMapping()[settings.log_level]
    processors: list[Processor] = [
        _naming(role),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer() if human else _TRACEBACKS,
    ]
    structlog.configure(
        processors=[*processors, renderer, _keyless],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; only what they call a warning is worth an operator's time.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _keyless],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *processors],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING))


def _keyless(_logger: object, _method: str, line: Any) -> str:
    """The line without keys."""
    return _KEY.sub(r"\1***", line)


def _naming(role: str) -> Processor:
    """Add the role to each line, whichever thread it comes from (a context variable is its own thread's only)."""

    def name(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["role"] = role
        return event

    return name
