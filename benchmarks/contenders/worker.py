"""The process of a contender: reads an order as a line of JSON and answers with one, until standard input ends.

``{"do": "load", "job": {...}}`` loads the contender and answers with its parts. ``{"do": "run", "part": ..., "out":
FILE}`` times one part and writes its log-probabilities to FILE. The peak rate of matrix products is measured right
before and after each run.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import measure


@dataclass(frozen=True, slots=True)
class Job:
    """The model, the workload and the device."""

    model: str
    dtype: str
    device: str
    workload: str
    selection: bool
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def sets(self) -> list[dict[str, Any]]:
        """Response sets: texts, token ids and questions."""
        return json.loads(Path(self.workload).read_text())


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a contender is timed on."""

    run: Callable[[], Any]
    # Untimed. Makes log-probabilities [set][response][token], or one mean a response, from the result of ``run``.
    log_probs: Callable[[Any], list[list[Sequence[float]]]] | None = None
    facts: Callable[[Any], dict[str, Any]] | None = None  # untimed; other values to report
    before: Callable[[], Any] | None = None  # untimed; called before each run


@dataclass(frozen=True, slots=True)
class LoadedContender:
    """A contender that is loaded and warmed up."""

    parts: dict[str, Part]
    packages: tuple[str, ...] = ("torch", "transformers")
    scorer: int = field(default_factory=os.getpid)  # the process whose memory counts


def run_worker(load: Callable[[Job, ExitStack], LoadedContender]) -> None:
    """Carry out orders until standard input ends. Output of libraries goes to standard error, apart from replies."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contender = job = None
    with ExitStack() as stack:
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "load":
                job = Job(**order["job"])
                contender = load(job, stack)
                versions = {name: version(name) for name in contender.packages}
                reply: dict[str, Any] = {"parts": list(contender.parts), "versions": versions}
            else:
                assert contender
                assert job
                reply = _run(contender, job, order["part"], order["out"])
            print(json.dumps(reply), file=replies, flush=True)


def _run(contender: LoadedContender, job: Job, name: str, out: str) -> dict[str, Any]:
    part = contender.parts[name]
    if part.before:
        part.before()
    peak_before = measure.gemm_flop_per_second(job.dtype, job.device)
    memory = measure.PeakMemory(contender.scorer, job.device)
    neighbours = measure.Neighbours(contender.scorer)
    measure.synchronize(job.device)
    began = time.perf_counter()
    result = part.run()
    measure.synchronize(job.device)
    seconds = time.perf_counter() - began
    used = memory.read() | {"cores_busy_elsewhere": neighbours.cores()}
    peak_after = measure.gemm_flop_per_second(job.dtype, job.device)
    peak = {library: max(rate, peak_after[library]) for library, rate in peak_before.items()}
    if part.log_probs:
        arrays = {
            f"{s}.{r}": np.asarray(x) for s, row in enumerate(part.log_probs(result)) for r, x in enumerate(row)
        }
        np.savez(out, **arrays)
    facts = part.facts(result) if part.facts else {}
    return {
        "seconds": seconds,
        "gemm_flop_per_second": peak["mm"],
        "fastest_gemm_flop_per_second": peak["fastest"],
        **used,
        "facts": facts,
    }
