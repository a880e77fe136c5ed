"""Seconds from the command to a ready teacher, beside another checkout of this project in the same run.

    python -m benchmarks.start_time --teacher DIR [--other CHECKOUT] [--times 5]

Each start is a process of its own, and the two checkouts take turns. The first start of each only fills the file
cache. Writes results/start_time.json.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness.environment import RESULTS, ROOT, RUNS, circumstances, commit_of
from benchmarks.harness.service_process import pad_teacher

FOLDERS = ("server", "client", "shared")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_time", description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, metavar="DIR", help="model directory of the teacher")
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="of this project, as git worktree makes one")
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    checkouts = [ROOT, *([given.other.resolve()] if given.other else [])]
    RUNS.mkdir(parents=True, exist_ok=True)
    found: dict[Path, list[float]] = {each: [] for each in checkouts}
    for _ in range(given.times + 1):
        for checkout in checkouts:
            found[checkout].append(seconds_to_ready(checkout, given.teacher.resolve()))
            print(f"{commit_of(checkout)}: {found[checkout][-1]:.2f} s", flush=True)
    starts = [{"commit": commit_of(each), **in_short(found[each][1:])} for each in checkouts]
    result: dict[str, Any] = {"circumstances": circumstances("start_time", "cpu"), "starts": starts}
    if given.other:
        result["ratio_of_medians"] = round(starts[0]["median_seconds"] / starts[1]["median_seconds"], 3)
    print(json.dumps(result, indent=2))
    (RESULTS / "start_time.json").write_text(json.dumps(result, indent=2) + "\n")


def seconds_to_ready(checkout: Path, teacher: Path) -> float:
    """Start the service of a checkout, and end it once it is ready."""
    path = os.pathsep.join(str(checkout / each) for each in FOLDERS)
    began = time.perf_counter()
    options = ("--model", teacher, "--dtype", "float32")
    with pad_teacher(RUNS / "start.log", *options, environment=os.environ | {"PYTHONPATH": path}):
        return time.perf_counter() - began


def in_short(seconds: list[float]) -> dict[str, Any]:
    return {"median_seconds": round(median(seconds), 2), "seconds": [round(each, 2) for each in seconds]}


if __name__ == "__main__":
    main()
