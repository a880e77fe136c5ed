"""Processes that must not outlive this one, even where it is killed and can do nothing about it any more."""

import os
import subprocess
import sys
from collections.abc import Iterable

# Handles, not ids: an id may have passed to another process by then. Its input ends with the process that made it.
_PROGRAM = """
import os, signal, sys
for caught in (signal.SIGINT, signal.SIGTERM):
    signal.signal(caught, signal.SIG_IGN)
sys.stdin.read()
for handle in map(int, sys.argv[1:]):
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def guard(pids: Iterable[int]) -> subprocess.Popen[bytes]:
    """A small process that waits for the end of this one, or of its own input, and kills what is left of ``pids``."""
    handles = [os.pidfd_open(pid) for pid in pids]
    started = subprocess.Popen(  # noqa: S603 - this interpreter, and a program of ours
        [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, handles)],
        stdin=subprocess.PIPE,
        pass_fds=handles,
        start_new_session=True,
    )
    for handle in handles:
        os.close(handle)
    return started
