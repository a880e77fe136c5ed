"""A pseudo-terminal of 80 columns: everything that is written on it, with the time, and keys pressed on it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

COLUMNS = 80


class Terminal:
    """Reads what is written on ``slave`` in a thread, until its last writer closes it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.written: list[tuple[float, str]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_slave()
        for process in self._processes:
            process.kill()
            process.wait()
        self._thread.join()
        os.close(self.master)

    def close_slave(self) -> None:
        """From now on only the processes that were started write here."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command with this terminal for all three streams, so that Ctrl-C reaches it."""
        process = subprocess.Popen(
            command,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **options,
        )
        self._processes.append(process)
        self.close_slave()
        return process

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.written)

    @property
    def lines(self) -> list[str]:
        """Lines as a person reads them: without those that were drawn over, or cleared."""
        return [line.rpartition("\r")[2].rstrip() for line in self.text.replace("\r\n", "\n").split("\n")]

    @property
    def drawn(self) -> list[str]:
        """Each state of each line, as it was drawn."""
        return [each.rstrip() for each in self.text.replace("\n", "\r").split("\r") if each.strip()]

    @property
    def redrawn(self) -> list[str]:
        """Each state of each line that was drawn over, so never the last one."""
        states = (line.split("\r")[:-1] for line in self.text.replace("\r\n", "\n").split("\n"))
        return [state.rstrip() for line in states for state in line if state.strip()]

    def longest_silence(self) -> float:
        """Seconds between two texts."""
        times = [when for when, _ in self.written]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def wait_for(self, condition: Callable[[str], bool], seconds: float = 120) -> None:
        ends = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < ends, self.text
            time.sleep(0.01)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65_536)
            except OSError:  # the last writer has closed it
                return
            if not data:
                return
            self.written.append((time.monotonic(), data.decode(errors="replace")))
