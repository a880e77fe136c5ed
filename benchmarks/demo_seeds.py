"""Runs the demo with three seeds and reports each rise of the grade. Writes results/demo_seeds.json.

python -m benchmarks.demo_seeds
"""

import argparse
import json
import platform
import subprocess
import sys
from statistics import median

from benchmarks.harness.environment import RESULTS, ROOT

SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    runs = []
    for seed in SEEDS:
        out = ROOT / "runs" / f"demo-seed-{seed}"
        demo = [sys.executable, "examples/tinyworld/demo.py", "--seed", str(seed), "--out", str(out)]
        subprocess.run(demo, cwd=ROOT, check=True)
        runs.append(json.loads((out / "result.json").read_text()))
    summary = {
        "command": "make bench",
        "machine": f"{platform.machine()}, CPU",
        "smallest_gain": min(run["gain"] for run in runs),
        "median_gain": median(run["gain"] for run in runs),
        "median_wall_seconds": median(run["wall_seconds"] for run in runs),
        "runs": runs,
    }
    (RESULTS / "demo_seeds.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"smallest gain {summary['smallest_gain']:.3f}, median {summary['median_gain']:.3f}")


if __name__ == "__main__":
    main()
