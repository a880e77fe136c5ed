"""The command's first lines: the status line is shown before anything large is imported, which takes seconds."""

import atexit
import os
import sys

from pad_student.storage.terminal.status import STATUS


def main() -> int:
    """Run one command; see ``cli.main``."""
    left: list[int] = []
    atexit.register(_leave, left)  # registered first, so it runs after every library's own
    with STATUS.showing(), STATUS.phase("starting"):
        from pad_student.commands import cli

        left.append(cli.main())
    return left[0]


def _leave(left: list[int]) -> None:
    """End without taking torch's modules down one by one, which takes seconds in silence."""
    if left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left[0])
