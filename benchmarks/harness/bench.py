"""Rounds over all contenders: keeps each run, and the reason if a contender could not be measured."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.registry import SCORING, Contender
from benchmarks.harness.report import Runs, disagreement
from benchmarks.harness.workers import ContenderFailed, Worker


class Bench:
    """One comparison.

    - ``runs`` has every run by contender and part, in the order of the rounds.
    - ``failed`` has the reason of each contender that failed; a failed contender runs no more.
    - ``versions`` has the package versions of each contender that loaded.
    - Only ``parts`` are measured, if they are given.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        model: Path,
        workload: Path,
        contenders: Mapping[str, Contender] = SCORING,
        parts: Collection[str] | None = None,
    ) -> None:
        self.runs: Runs = {}
        self.failed: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self._options, self._model, self._workload = options, model, workload
        self._contenders, self._parts = contenders, parts
        self._pythons = {"vllm": options.vllm_python, "lm-eval": options.lm_eval_python}
        self._workers: dict[str, tuple[Worker, list[str]]] = {}
        self._reference = model / f"float64-{options.reference_sets}-{workload.stem}.npz"

    def measure(self, after_each_run: Callable[[], None]) -> None:
        """Run all rounds. Contenders take turns, or run one after the other to hold one model at a time."""
        if self._options.reference_sets:
            self._make_reference()
        names: list[str] = self._options.contenders
        for together in [[name] for name in names] if self._options.sequential else [names]:
            try:
                for name in together:
                    self._start(name)
                for index in range(self._options.rounds):
                    self._round(together, index, after_each_run)
            finally:
                for worker, _ in self._workers.values():
                    worker.stop()
                self._workers.clear()
        after_each_run()

    def scores_of(self, name: str, part: str) -> Path:
        """The file with the log-probabilities of the last run."""
        return self._workload.parent / f"{name}-{part.replace(' ', '')}.npz"

    def _start(self, name: str) -> None:
        contender = self._contenders[name]
        log_progress(f"loading {name}: {contender.description}")
        log = self._workload.parent / f"{name}.log"
        try:
            worker = Worker(contender, contender.interpreter(self._pythons), log)
        except ContenderFailed as reason:
            self._fail(name, reason)
            return
        self._workers[name] = (worker, [])
        options = ("connections", "lm_eval_batch_size", "reference_sets")
        job = {
            "model": str(self._model),
            "dtype": self._options.dtype,
            "device": self._options.device,
            "workload": str(self._workload),
            "selection": self._options.selection,
            "options": {option: getattr(self._options, option) for option in options},
        }
        try:
            loaded = worker.ask(self._options.timeout, do="load", job=job)
        except ContenderFailed as reason:
            self._fail(name, reason)
            return
        parts = [part for part in loaded["parts"] if self._parts is None or part in self._parts]
        self._workers[name] = (worker, parts)
        self.versions[name] = loaded["versions"]

    def _round(self, names: Sequence[str], index: int, after_each_run: Callable[[], None]) -> None:
        for name in names:
            if name in self._workers:
                worker, parts = self._workers[name]
                try:
                    for part in parts:
                        self._run(worker, name, part, index)
                        after_each_run()
                except ContenderFailed as reason:
                    self._fail(name, reason)

    def _run(self, worker: Worker, name: str, part: str, index: int) -> None:
        out = self.scores_of(name, part)
        out.unlink(missing_ok=True)
        run = worker.ask(self._options.timeout, do="run", part=part, out=str(out))
        run["disagreement"] = disagreement(out, self._reference) if part.startswith("likelihood") else None
        self.runs.setdefault((name, part), []).append(run)
        rate, elsewhere = run["gemm_flop_per_second"] / 1e9, run["cores_busy_elsewhere"] or 0
        disturbed = f"; {elsewhere:.1f} cores were busy with something else" if elsewhere > 0.1 else ""
        log_progress(
            f"round {index + 1}, {name}, {part}: {run['seconds']:.2f} s at {rate:.0f} GFLOP/s peak{disturbed}"
        )

    def _fail(self, name: str, reason: ContenderFailed) -> None:
        self.failed[name] = str(reason)
        log_progress(f"{name}: {reason}")
        if name in self._workers:
            self._workers.pop(name)[0].stop()

    def _make_reference(self) -> None:
        """Write the float64 scores once for a model and workload, in a process that then frees its memory."""
        if self._reference.exists():
            return
        log_progress("float64 reference")
        command: list[Any] = [sys.executable, "-m", "benchmarks.harness.reference"]
        command += [self._model, self._workload, self._reference]
        command += ["--sets", str(self._options.reference_sets), "--device", self._options.device]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            self.failed["float64 reference"] = last[:300]


def log_progress(line: str) -> None:
    """Print to standard error: standard output has the table alone."""
    print(line, file=sys.stderr, flush=True)
