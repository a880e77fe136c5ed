"""Structured logs on standard error, also of uvicorn, transformers and warnings: JSON, or lines on a terminal."""

import logging
import math
import os
import sys

import structlog
from transformers.utils import logging as of_transformers

REPEAT_SECONDS = 60.0
FREQUENT = (  # of uvicorn and asyncio, about one connection
    "Invalid HTTP request received",
    "Unsupported upgrade request",
    "No supported WebSocket library detected",
    "socket.accept() out of system resource",
    "SSL handshake failed",
    "SSL connection is closed",
    "SSL error in data received",
    "Fatal error on",
)


def configure(level: str) -> None:
    """Send structlog and the standard library's loggers through one formatter."""
    of_transformers.disable_default_handler()
    of_transformers.enable_propagation()
    if not is_for_people():  # a progress bar is for a terminal, not for a log file
        of_transformers.disable_progress_bar()
    logging.captureWarnings(capture=True)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _drop_none,
                _plain_lines() if is_for_people() else structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for noisy in ("asyncio", "uvicorn.error"):
        logger = logging.getLogger(noisy)
        logger.filters = [each for each in logger.filters if not isinstance(each, _NowAndThen)]
        logger.addFilter(_NowAndThen())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def is_for_people() -> bool:
    """Whether the logs go to a terminal; programs read one JSON object a line."""
    return sys.stderr.isatty()


def _plain_lines() -> structlog.dev.ConsoleRenderer:
    colours = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return structlog.dev.ConsoleRenderer(
        colors=colours, pad_event_to=0, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )


class _NowAndThen(logging.Filter):
    """Lets each message through once a minute, if a client can cause it as often as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = next((begin for begin in FREQUENT if record.getMessage().startswith(begin)), None)
        if message is None:
            return True
        if record.created - self._said.get(message, -math.inf) < REPEAT_SECONDS:
            return False
        self._said[message] = record.created
        return True


def _drop_none(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if value is not None}
