"""Structured logs: one line per event on standard error, as JSON or as text for a person.

A line about a delivery carries `delivery_id`. No line carries a secret or a payload: log what was decided and why.
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
    # Reconnecting is our business and logged once by us; these two log every attempt, at error level and with traces.
    "aio_pika": logging.CRITICAL,
    "aiormq": logging.CRITICAL,
    "aiohttp.access": logging.CRITICAL,
    "aiosqlite": logging.INFO,  # below that, every statement with its values
}


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    return structlog.stdlib.get_logger(name)


def configure(level: str = "info", log_format: str | None = None, stream: TextIO = sys.stderr) -> None:
    """Send our lines and those of the libraries to `stream`; text on a terminal and JSON elsewhere unless told.

    `level` is one of `LEVELS`, `log_format` one of `FORMATS` or None.
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
    """Take the trace off a line about a request that is not HTTP: it quotes the request's headers."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
    return True


def _renderers(text: bool, stream: TextIO) -> list[Processor]:
    # Traces are rendered as plain text: a formatter that shows local variables would show secrets and payloads.
    if text:
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [console]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
