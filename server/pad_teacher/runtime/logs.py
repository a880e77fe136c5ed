"""Structured logs: one JSON object per line on standard error, also for uvicorn, transformers and warnings."""

import logging
import sys

import structlog
from transformers.utils import logging as of_transformers


def configure(level: str) -> None:
    """Send structlog and the standard library's loggers through one JSON formatter."""
    of_transformers.disable_default_handler()
    of_transformers.enable_propagation()
    if not sys.stderr.isatty():  # a progress bar is for a terminal, not for a log file
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
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
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


def _drop_none(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if value is not None}
