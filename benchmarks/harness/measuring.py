"""Rounds over all ways, keeping what was measured and why anything was not."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report import Runs, disagreement
from harness.workers import WAYS, Kind, WayFailed, Worker, interpreter


class Bench:
    """One comparison: ``runs`` by way and part, ``failed`` by way. Only ``parts`` are measured, if given."""

    def __init__(
        self,
        options: argparse.Namespace,
        model: Path,
        workload: Path,
        kinds: Mapping[str, Kind] = WAYS,
        parts: Collection[str] | None = None,
    ) -> None:
        self.runs: Runs = {}
        self.failed: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self._options, self._model, self._workload = options, model, workload
        self._kinds, self._parts = kinds, parts
        self._pythons = {"vllm": options.vllm_python, "lm-eval": options.lm_eval_python}
        self._workers: dict[str, tuple[Worker, list[str]]] = {}
        self._reference = model / f"float64-{options.reference_sets}-{workload.stem}.npz"

    def measure(self, after_each_run: Callable[[], None]) -> None:
        """All rounds: of all ways in turn or, to hold one model at a time, of one way after the other."""
        if self._options.reference_sets:
            self._make_reference()
        ways: list[str] = self._options.ways
        for together in [[way] for way in ways] if self._options.sequential else [ways]:
            try:
                for way in together:
                    self._start(way)
                for index in range(self._options.rounds):
                    self._round(together, index, after_each_run)
            finally:
                for worker, _ in self._workers.values():
                    worker.stop()
                self._workers.clear()
        after_each_run()

    def scores_of(self, way: str, part: str) -> Path:
        """The file with the log-probabilities of the last run."""
        return self._workload.parent / f"{way}-{part.replace(' ', '')}.npz"

    def _start(self, way: str) -> None:
        kind = self._kinds[way]
        say(f"loading {way}: {kind.words}")
        log = self._workload.parent / f"{way}.log"
        try:
            worker = Worker(kind, interpreter(kind, self._pythons), log)
        except WayFailed as reason:
            self._fail(way, reason)
            return
        self._workers[way] = (worker, [])
        options = ("connections", "lm_eval_batch_size", "reference_sets")
        job = {
            "model": str(self._model),
            "dtype": self._options.dtype,
            "device": self._options.device,
            "workload": str(self._workload),
            "selection": self._options.selection,
            "options": {name: getattr(self._options, name) for name in options},
        }
        try:
            loaded = worker.ask(self._options.timeout, do="load", job=job)
        except WayFailed as reason:
            self._fail(way, reason)
            return
        parts = [part for part in loaded["parts"] if self._parts is None or part in self._parts]
        self._workers[way] = (worker, parts)
        self.versions[way] = loaded["versions"]

    def _round(self, ways: Sequence[str], index: int, after_each_run: Callable[[], None]) -> None:
        for way in ways:
            if way in self._workers:
                worker, parts = self._workers[way]
                try:
                    for part in parts:
                        self._run(worker, way, part, index)
                        after_each_run()
                except WayFailed as reason:
                    self._fail(way, reason)

    def _run(self, worker: Worker, way: str, part: str, index: int) -> None:
        out = self.scores_of(way, part)
        out.unlink(missing_ok=True)
        run = worker.ask(self._options.timeout, do="run", part=part, out=str(out))
        run["disagreement"] = disagreement(out, self._reference) if part.startswith("likelihood") else None
        self.runs.setdefault((way, part), []).append(run)
        rate, elsewhere = run["gemm_flop_per_second"] / 1e9, run["cores_busy_elsewhere"] or 0
        disturbed = f"; {elsewhere:.1f} cores were busy with something else" if elsewhere > 0.1 else ""
        say(f"round {index + 1}, {way}, {part}: {run['seconds']:.2f} s beside {rate:.0f} GFLOP/s{disturbed}")

    def _fail(self, way: str, reason: WayFailed) -> None:
        self.failed[way] = str(reason)
        say(f"{way}: {reason}")
        if way in self._workers:
            self._workers.pop(way)[0].stop()

    def _make_reference(self) -> None:
        """Once for a model and workload: float64 is slow. In a process of its own, which gives its memory back."""
        if self._reference.exists():
            return
        say("float64 reference")
        options = ["--sets", str(self._options.reference_sets), "--device", self._options.device]
        script = Path(__file__).with_name("reference.py")
        command: list[Any] = [sys.executable, script, self._model, self._workload, self._reference, *options]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            self.failed["float64 reference"] = last[:300]


def say(line: str) -> None:
    """Progress goes to standard error: the table alone is the output."""
    print(line, file=sys.stderr, flush=True)
