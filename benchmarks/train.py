"""One update of a student, side by side: steps a second and memory, ours beside a plain loop and TRL's DPO trainer.

    python benchmarks/train.py

The same weights, the same sets, clipping and AdamW in all; every way in a process of its own, which rounds take in
turn. TRL needs an environment of its own: benchmarks/install_peers.sh trl.
"""

import datetime
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from harness.floor import floor_of
from harness.measuring import say
from harness.model import make_model, make_tokenizer
from harness.shapes import SHAPES
from harness.workers import UPDATES, WayFailed, Worker, interpreter
from harness.workload import Sizes, make_workload
from losses_time import loss_rows

SHAPE, SIZES = "smollm2-135m", Sizes(256, 128, 4, 1, mixed=False, selection=False)
ROUNDS, UPDATES_A_RUN, TIMEOUT = 3, 1, 120.0


def main() -> None:
    root = Path(__file__).parents[1] / "runs" / "bench"
    root.mkdir(parents=True, exist_ok=True)
    model = make_model(SHAPE, "float32", "cpu", root)
    workload = make_workload(make_tokenizer(root), SIZES, root)
    runs, failed, versions = measure(model, workload)
    floor = floor_of(SHAPES[SHAPE], json.loads(workload.read_text()))
    rows = [row(way, found, runs["ours"], 3 * floor.flop) for way, found in runs.items()]
    result = {
        "command": "python benchmarks/train.py",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
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
    (Path(__file__).parent / "results" / Path(__file__).with_suffix(".json").name).write_text(
        json.dumps(result, indent=2) + "\n"
    )
    print(json.dumps(result["rows"] + result["loss"], indent=1))


def measure(model: Path, workload: Path) -> tuple[dict[str, list[Any]], dict[str, str], dict[str, Any]]:
    """Rounds over all ways: runs, reasons and versions by way."""
    workers: dict[str, Worker] = {}
    runs: dict[str, list[Any]] = {}
    failed: dict[str, str] = {}
    versions: dict[str, Any] = {}
    job = {"model": str(model), "dtype": "float32", "device": "cpu", "workload": str(workload), "selection": False}
    try:
        for way, kind in UPDATES.items():
            try:
                workers[way] = Worker(kind, interpreter(kind, {}), model.parent / f"update-{way}.log")
                options = {"updates": UPDATES_A_RUN} | ({"max_forward_tokens": 400} if way == "ours-bounded" else {})
                versions[way] = workers[way].ask(TIMEOUT, do="load", job=job | {"options": options})["versions"]
                runs[way] = []
            except WayFailed as reason:
                failed[way] = str(reason)
                say(f"{way}: {reason}")
        for index in range(ROUNDS):
            for way in runs:
                found = workers[way].ask(TIMEOUT, do="run", part="update", out="/dev/null")
                runs[way].append(found)
                seconds, elsewhere = found["seconds"] / UPDATES_A_RUN, found["cores_busy_elsewhere"] or 0
                say(f"round {index + 1}, {way}: {seconds:.2f} s a step; {elsewhere:.1f} cores busy elsewhere")
    finally:
        for worker in workers.values():
            worker.stop()
    return runs, failed, versions


def row(way: str, runs: list[Any], ours: list[Any], flop: int) -> dict[str, Any]:
    """Medians of a way, and of its rounds' ratios to ours."""
    seconds = [run["seconds"] / UPDATES_A_RUN for run in runs]
    return {
        "way": way,
        "words": UPDATES[way].words,
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
