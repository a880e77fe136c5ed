"""Contenders that score response sets, side by side: seconds, share of the floor, memory, exactness.

    python -m benchmarks.scoring --prompt 256 --response 128 -n 4 --sets 8 --rounds 3

Every contender runs in its own process, which stays loaded. In each round all contenders take turns, so that they see
the same machine. Some contenders need their own environments: benchmarks/install_peers.sh.
"""

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.bench import Bench
from benchmarks.harness.environment import RESULTS, RUNS, circumstances
from benchmarks.harness.floor import floor_of
from benchmarks.harness.model import make_model, make_tokenizer
from benchmarks.harness.registry import SCORING
from benchmarks.harness.report import rows_of, table
from benchmarks.harness.shapes import SHAPES
from benchmarks.harness.workload import Sizes, make_workload


def main() -> None:
    options = read_options()
    # A time limit sends SIGTERM. It must end the workers too; the file has all runs until then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    RUNS.mkdir(parents=True, exist_ok=True)
    model = make_model(options.model, options.dtype, options.device, RUNS)
    sizes = Sizes(options.prompt, options.response, options.n, options.sets, options.mixed, options.selection)
    workload = make_workload(make_tokenizer(RUNS), sizes, RUNS)
    floor = floor_of(SHAPES[options.model], json.loads(workload.read_text()))
    print(f"floor {floor.flop / 1e12:.2f} TFLOP, attention {floor.attention / 1e12:.3f}, {floor.tokens} tokens")
    bench = Bench(options, model, workload)

    def write() -> None:
        result = {
            **circumstances("scoring", options.device),
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


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each rendered prompt")
    parser.add_argument("--response", type=int, default=128, help="tokens of each response, its end of turn included")
    parser.add_argument("-n", type=int, default=4, help="responses of a set")
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--mixed", action="store_true", help="draw all lengths log-uniformly from 16 to 2000")
    parser.add_argument("--selection", action="store_true", help="also multiple choice, alone and with likelihood")
    parser.add_argument("--model", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--contenders", type=_contenders, default=list(SCORING), help=f"of {','.join(SCORING)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sequential", action="store_true", help="one contender's rounds after the other's: less memory"
    )
    parser.add_argument("--connections", type=int, default=4, help="concurrent clients of the service")
    parser.add_argument("--lm-eval-batch-size", type=_batch_size, default=4, help="a number, or auto")
    parser.add_argument("--reference-sets", type=int, default=2, help="sets compared with float64; 0 for none")
    parser.add_argument("--timeout", type=float, default=900, help="most seconds of one run")
    parser.add_argument("--vllm-python", type=Path, help="default: .venv-vllm/bin/python")
    parser.add_argument("--lm-eval-python", type=Path, help="default: .venv-lm-eval/bin/python")
    parser.add_argument("--out", type=Path, default=RESULTS / "scoring.json")
    return parser.parse_args()


def _contenders(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(SCORING):
        raise argparse.ArgumentTypeError(f"unknown contenders: {', '.join(sorted(unknown))}")
    return chosen


def _batch_size(text: str) -> int | str:
    return text if text == "auto" else int(text)


if __name__ == "__main__":
    main()
