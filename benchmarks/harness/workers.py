"""The process that a contender runs in, as the benchmark sees it: orders and replies are lines of JSON."""

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import ROOT
from benchmarks.harness.registry import Contender


class ContenderFailed(RuntimeError):
    """The contender could not be measured; the message gives the reason."""


class Worker:
    """One contender's process. It stays loaded until it is stopped."""

    def __init__(self, contender: Contender, python: Path, log: Path) -> None:
        if not python.exists():
            raise ContenderFailed(f"no {python}: see benchmarks/install_peers.sh")
        self._log = log
        # OMP_WAIT_POLICY is not set: ``passive`` slows every contender by 3 %, and idle threads sleep after some ms
        # without it.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", f"benchmarks.contenders.{contender.module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=environment,
                start_new_session=True,  # so that its own children end with it
            )
        self.pid = self._process.pid

    def ask(self, timeout: float, **order: Any) -> dict[str, Any]:
        """Send an order and wait for the reply.

        Raises:
            ContenderFailed: the worker ended, with the last line that it wrote, or took longer than ``timeout``.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContenderFailed(self._last_words()) from None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise ContenderFailed(f"no answer to {order['do']!r} in {timeout:.0f} s")
        reply = self._process.stdout.readline()
        if not reply:
            raise ContenderFailed(self._last_words())
        return json.loads(reply)

    def stop(self) -> None:
        """Close its input, wait ten seconds for it to end, and then kill it and its children."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):  # it died before it took its last order
            self._process.stdin.close()
        until = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def _last_words(self) -> str:
        self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["nothing written"]
        return f"ended with status {self._process.returncode}: {lines[-1].strip()[:300]}"
