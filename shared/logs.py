"""Structured logs: one line per event on standard error, as JSON or as text.

A line about a delivery has the field `delivery_id`. No line contains a secret or a payload.
"""

import logging
import sys
from typing import TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.types import Processor

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "text")

_LEAST = {
    # promgithub reconnects by itself and logs that once. These two log every attempt at level error, with a traceback.
    "aio_pika": logging.CRITICAL,
    "aiormq": logging.CRITICAL,
    "aiohttp.access": logging.CRITICAL,
    "aiosqlite": logging.INFO,  # at level debug, it logs every statement with its values
}


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    return structlog.stdlib.get_logger(name)


def configure(level: str = "info", log_format: str | None = None, stream: TextIO = sys.stderr) -> None:
    """Write promgithub's log lines and those of the libraries to `stream`.

    `level` is one of `LEVELS`, `log_format` one of `FORMATS` or None. None means text on a terminal and JSON elsewhere.
    """
    text = log_format == "text" or (log_format is None and stream.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(text, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _LEAST.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.getLogger("aiohttp.server").addFilter(_without_request)


def _without_request(record: logging.LogRecord) -> bool:
    """Remove the traceback from a line about a malformed HTTP request, because it contains the request's headers."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
    return True


def _renderers(text: bool, stream: TextIO) -> list[Processor]:
    # Tracebacks are plain text: a formatter that shows local variables would show secrets and payloads.
    if text:
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [console]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
