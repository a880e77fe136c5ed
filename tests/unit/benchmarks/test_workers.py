"""The processes that a benchmark compares."""

import os
import signal
import sys
from pathlib import Path

import pytest
from benchmarks.harness.registry import PARITY, PREFERENCES, SCORING, UPDATES, Contender
from benchmarks.harness.workers import ContenderFailed, Worker

from support.paths import ROOT


def test_a_dead_worker_is_an_error_and_can_be_stopped(tmp_path: Path) -> None:
    worker = Worker(SCORING["ours"], Path(sys.executable), tmp_path / "log")
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ContenderFailed, match="ended with status -9"):
        worker.ask(5, do="run")
    worker.stop()


ALL = [*SCORING.values(), *PARITY.values(), *UPDATES.values(), *PREFERENCES.values()]


@pytest.mark.parametrize("contender", {each.module: each for each in ALL}.values())
def test_every_contender_is_a_module(contender: Contender) -> None:
    assert (ROOT / "benchmarks" / "contenders" / f"{contender.module}.py").is_file()
