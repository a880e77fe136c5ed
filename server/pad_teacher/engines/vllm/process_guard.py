"""Processes that must not outlive this one, even if it is killed and can no longer stop them."""

import os
import subprocess
import sys
from collections.abc import Iterable

# Handles, not ids: another process may have the id by then. The program's input ends when its parent does.
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


def kill_with_parent(pids: Iterable[int]) -> subprocess.Popen[bytes]:
    """Start a small process that kills what is left of ``pids`` when this process, or its pipe to it, ends."""
    handles = [os.pidfd_open(pid) for pid in pids]
    started = subprocess.Popen(  # noqa: S603 - this interpreter, with the program above
        [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, handles)],
        stdin=subprocess.PIPE,
        pass_fds=handles,
        start_new_session=True,
    )
    for handle in handles:
        os.close(handle)
    return started
