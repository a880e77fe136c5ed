"""Ways of scoring response sets, side by side: seconds, share of the floor, memory, exactness.

    python benchmarks/scoring.py --prompt 256 --response 128 -n 4 --sets 8 --rounds 3

Every way runs in a process of its own that stays loaded, and rounds take the ways in turn, so that all of them see
the same machine. Peers need environments of their own: benchmarks/install_peers.sh.
"""

import argparse
import datetime
import json
import platform
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from harness.floor import floor_of
from harness.measuring import Bench
from harness.model import make_model, make_tokenizer
from harness.report import rows_of, table
from harness.shapes import SHAPES
from harness.workers import WAYS
from harness.workload import Sizes, make_workload

ROOT = Path(__file__).parents[1]


def main() -> None:
    options = read_options()
    # A time limit's SIGTERM ends the workers too; what was measured until then is in the file.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    root = ROOT / "runs" / "bench"
    root.mkdir(parents=True, exist_ok=True)
    model = make_model(options.model, options.dtype, options.device, root)
    sizes = Sizes(options.prompt, options.response, options.n, options.sets, options.mixed, options.selection)
    workload = make_workload(make_tokenizer(root), sizes, root)
    floor = floor_of(SHAPES[options.model], json.loads(workload.read_text()))
    print(f"floor {floor.flop / 1e12:.2f} TFLOP, attention {floor.attention / 1e12:.3f}, {floor.tokens} tokens")
    bench = Bench(options, model, workload)

    def write() -> None:
        result = {
            **circumstances(options.device),
            "model": {"shape": options.model, "weights": "random", "dtype": options.dtype},
            "workload": asdict(sizes),
            "floor": {"flop": floor.flop, **asdict(floor)},
            "rounds": options.rounds,
            "sequential": options.sequential,
            "rows": rows_of(bench.runs, floor),
            "failed": bench.failed,
            "versions": bench.versions,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")

    bench.measure(after_each_run=write)
    print(table(rows_of(bench.runs, floor), bench.failed))


def circumstances(device: str) -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    on_cpu = torch.device(device).type == "cpu"
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "command": shlex.join(["python", "benchmarks/scoring.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": described.stdout.strip() or "unknown",
        "device": _processor() if on_cpu else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", listed.read_text()) if listed.exists() else None
    return name[1] if name else platform.machine()


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each rendered prompt")
    parser.add_argument("--response", type=int, default=128, help="tokens of each response, its end of turn included")
    parser.add_argument("-n", type=int, default=4, help="responses of a set")
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--mixed", action="store_true", help="all lengths log-uniform between 16 and 2000 instead")
    parser.add_argument("--selection", action="store_true", help="multiple choice too, apart and together")
    parser.add_argument("--model", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ways", type=_ways, default=list(WAYS), help=f"of {','.join(WAYS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequential", action="store_true", help="one way's rounds after the other's: less memory")
    parser.add_argument("--connections", type=int, default=4, help="clients of the service at once")
    parser.add_argument("--lm-eval-batch-size", type=_batch_size, default=4, help="a number, or auto")
    parser.add_argument("--reference-sets", type=int, default=2, help="sets compared with float64; 0 for none")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one way may take for one run")
    parser.add_argument("--vllm-python", type=Path, help="default: .venv-vllm/bin/python")
    parser.add_argument("--lm-eval-python", type=Path, help="default: .venv-lm-eval/bin/python")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "scoring.json")
    return parser.parse_args()


def _ways(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(WAYS):
        raise argparse.ArgumentTypeError(f"no way is called {', '.join(sorted(unknown))}")
    return chosen


def _batch_size(text: str) -> int | str:
    return text if text == "auto" else int(text)


if __name__ == "__main__":
    main()
