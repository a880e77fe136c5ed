"""How much a command says on standard error, as --quiet and --verbose choose."""

import logging
import os
import sys
from typing import TextIO, cast

from pad_student.storage.terminal.status import STATUS, speaks_for_all


def choose(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set it for this process and those that it starts. Warnings and errors are always said."""
    STATUS.silent = quiet
    if quiet:
        STATUS.hide()
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    if verbose:
        logging.basicConfig(format="pad-student: %(message)s", level=logging.INFO)


class _ToStandardError(logging.Filter):
    """Sends a library's log to standard error: standard output is for results."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what is more than a greeting."""
        for handler in logging.getLogger(self._library).handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                cast(logging.StreamHandler[TextIO], handler).setStream(sys.stderr)
        return record.levelno >= logging.ERROR or record.module != "real_accelerator"


def keep_standard_output_clean() -> None:
    """Keep DeepSpeed's log, whose first line comes when it is imported, off standard output."""
    logging.getLogger("DeepSpeed").addFilter(_ToStandardError("DeepSpeed"))


def say(text: str) -> None:
    """Print one line on standard error, in the first process of a run, unless the command is quiet."""
    if not STATUS.silent and speaks_for_all():
        STATUS.say(text)
