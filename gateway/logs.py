"""Structured logs: one JSON object a line on standard output, past-tense event names, no payloads.

Every line of a request has its `request_id`, and while it is traced `trace_id` and `span_id`. The traceback
of an exception that a request met has files, lines and the exceptions' classes. Their texts are left out:
whoever raises one (numpy, Pillow, an engine) may quote the payload in it.
"""

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

import structlog

from gateway.request_id import REQUEST_ID
from gateway.settings import LogSettings
from gateway.tracing import add_span


def configure(settings: LogSettings, *, traced: bool = False) -> None:
    """Set up structlog, and send what libraries log the same way.

    Args:
        settings: level and format.
        traced: whether there are spans whose ids belong into the lines.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        *([add_span] if traced else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if settings.format == "console"
        else structlog.processors.JSONRenderer()
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, _exception, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exception,
                renderer,
            ],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def _add_request_id(_logger: Any, _method: str, event: Any) -> Any:
    request_id = REQUEST_ID.get()
    if request_id:
        event["request_id"] = request_id
    return event


def _formatted(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """A traceback; without the exceptions' texts where a request may have brought them."""
    error: BaseException | None = exc_info[1]
    if not REQUEST_ID.get():
        return "".join(traceback.format_exception(error)).rstrip()
    parts: list[str] = []
    while error is not None:
        parts.append("".join([*traceback.format_tb(error.__traceback__), type(error).__qualname__]))
        error = error.__cause__ or error.__context__
    return "\n\nThen:\n\n".join(reversed(parts))


_exception = structlog.processors.ExceptionRenderer(_formatted)
