"""A way of scoring as a process of its own: a line of JSON in, a line of JSON out, until standard input ends.

``{"do": "load", "job": {...}}`` answers which parts the way has; ``{"do": "run", "part": ..., "out": file}`` times
one of them and writes its log-probabilities there, with the peak of matrix products measured right before and after.
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

import measure
import numpy as np


@dataclass(frozen=True, slots=True)
class Job:
    """What to score, and on what."""

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
    """One thing that a way can be timed at."""

    run: Callable[[], Any]
    # From what run returned, untimed: log-probabilities [set][response][token], or one mean a response.
    log_probs: Callable[[Any], list[list[Sequence[float]]]] | None = None
    facts: Callable[[Any], dict[str, Any]] | None = None  # anything else worth reporting, untimed
    before: Callable[[], Any] | None = None  # untimed, before each run


@dataclass(frozen=True, slots=True)
class Way:
    """A loaded way, warmed up."""

    parts: dict[str, Part]
    packages: tuple[str, ...] = ("torch", "transformers")
    scorer: int = field(default_factory=os.getpid)  # the process whose memory counts


def work(load: Callable[[Job, ExitStack], Way]) -> None:
    """Obey orders. What libraries print goes to standard error, so that it cannot be taken for a reply."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    way = job = None
    with ExitStack() as stack:
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "load":
                job = Job(**order["job"])
                way = load(job, stack)
                versions = {name: version(name) for name in way.packages}
                reply: dict[str, Any] = {"parts": list(way.parts), "versions": versions}
            else:
                assert way
                assert job
                reply = _run(way, job, order["part"], order["out"])
            print(json.dumps(reply), file=replies, flush=True)


def _run(way: Way, job: Job, name: str, out: str) -> dict[str, Any]:
    part = way.parts[name]
    if part.before:
        part.before()
    peak_before = measure.gemm_flop_per_second(job.dtype, job.device)
    memory = measure.PeakMemory(way.scorer, job.device)
    neighbours = measure.Neighbours(way.scorer)
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
