"""One update of a student by PADTrainer, a plain loop and TRL's DPO trainer: steps a second and memory.

    python -m benchmarks.train

All contenders have the same weights, sets, clipping and AdamW. Each runs in its own process; in each round they take
turns. TRL needs its own environment: benchmarks/install_peers.sh trl.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness.bench import log_progress
from benchmarks.harness.environment import RESULTS, RUNS, now
from benchmarks.harness.floor import floor_of
from benchmarks.harness.losses import loss_rows
from benchmarks.harness.model import make_model, make_tokenizer
from benchmarks.harness.registry import UPDATES
from benchmarks.harness.shapes import SHAPES
from benchmarks.harness.workers import ContenderFailed, Worker
from benchmarks.harness.workload import Sizes, make_workload

SHAPE, SIZES = "smollm2-135m", Sizes(256, 128, 4, 1, mixed=False, selection=False)
ROUNDS, UPDATES_A_RUN, TIMEOUT = 3, 1, 120.0


def main() -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    model = make_model(SHAPE, "float32", "cpu", RUNS)
    workload = make_workload(make_tokenizer(RUNS), SIZES, RUNS)
    runs, failed, versions = measure(model, workload)
    floor = floor_of(SHAPES[SHAPE], json.loads(workload.read_text()))
    rows = [row(contender, found, runs["ours"], 3 * floor.flop) for contender, found in runs.items()]
    result = {
        "command": "python -m benchmarks.train",
        "date": now(),
        "model": SHAPE,
        "prompt": SIZES.prompt,
        "response": SIZES.response,
        "n": SIZES.n,
        "groups_a_step": SIZES.sets,
        "floor_flop": 3 * floor.flop,
        "rows": rows,
        "failed": failed,
        "versions": versions,
    }
    result["loss"] = loss_rows(result)
    (RESULTS / "train.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["rows"] + result["loss"], indent=1))


def measure(model: Path, workload: Path) -> tuple[dict[str, list[Any]], dict[str, str], dict[str, Any]]:
    """Run all rounds. Returns runs, reasons of failures and versions, each by contender."""
    workers: dict[str, Worker] = {}
    runs: dict[str, list[Any]] = {}
    failed: dict[str, str] = {}
    versions: dict[str, Any] = {}
    job = {"model": str(model), "dtype": "float32", "device": "cpu", "workload": str(workload), "selection": False}
    try:
        for name, contender in UPDATES.items():
            options = {"updates": UPDATES_A_RUN} | ({"max_forward_tokens": 400} if name == "ours-bounded" else {})
            try:
                workers[name] = Worker(contender, contender.interpreter({}), model.parent / f"update-{name}.log")
                versions[name] = workers[name].ask(TIMEOUT, do="load", job=job | {"options": options})["versions"]
                runs[name] = []
            except ContenderFailed as reason:
                failed[name] = str(reason)
                log_progress(f"{name}: {reason}")
        for index in range(ROUNDS):
            for name in runs:
                found = workers[name].ask(TIMEOUT, do="run", part="update", out="/dev/null")
                runs[name].append(found)
                seconds, elsewhere = found["seconds"] / UPDATES_A_RUN, found["cores_busy_elsewhere"] or 0
                log_progress(
                    f"round {index + 1}, {name}: {seconds:.2f} s a step; {elsewhere:.1f} cores busy elsewhere"
                )
    finally:
        for worker in workers.values():
            worker.stop()
    return runs, failed, versions


def row(contender: str, runs: list[Any], ours: list[Any], flop: int) -> dict[str, Any]:
    """One contender's medians, and the median of its rounds' ratios to ours."""
    seconds = [run["seconds"] / UPDATES_A_RUN for run in runs]
    return {
        "contender": contender,
        "description": UPDATES[contender].description,
        "seconds_a_step": median(seconds),
        "steps_a_second": 1 / median(seconds),
        "times_ours": median(run["seconds"] / own["seconds"] for run, own in zip(runs, ours, strict=True)),
        "share_of_floor": median(
            flop / run["fastest_gemm_flop_per_second"] / each for run, each in zip(runs, seconds, strict=True)
        ),
        "peak_bytes": max(run["peak_memory_bytes"] - run["facts"]["baseline_bytes"] for run in runs),
        "runs": runs,
    }


if __name__ == "__main__":
    sys.exit(main())
