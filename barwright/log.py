"""Structured logs: coloured lines on a terminal, one JSON object a line elsewhere."""

import logging
import sys

import structlog

from barwright.settings import Settings


def configure(settings: Settings, role: str) -> None:
    """Send this process's logs to standard error in the format the settings ask for, each line naming its role."""
    human = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if not human else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; only what they call a warning is worth an operator's time.
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format=f"%(levelname)s {role} %(name)s %(message)s"
    )
    structlog.contextvars.bind_contextvars(role=role)
