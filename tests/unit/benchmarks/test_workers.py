"""The processes that a benchmark compares."""

import sys
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from harness import workers

    return workers


def test_a_way_that_has_died_fails_alone_and_can_be_stopped(workers: Any, tmp_path: Path) -> None:
    worker = workers.Worker(workers.WAYS["ours"], Path(sys.executable), tmp_path / "log")
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(workers.WayFailed, match="ended with status -9"):
        worker.ask(5, do="run")
    worker.stop()
