"""Compares both engines' scores of the same response sets with each other and with plain transformers in float32.

    python -m benchmarks.parity --model smollm2-135m --dtype bfloat16

The engines run one after the other, each in its own process and Python. If an engine did not run, or a number is
missing or not finite, the result's ``failed`` has the reason and the exit status is 1.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from benchmarks.harness import agreement
from benchmarks.harness.bench import Bench
from benchmarks.harness.environment import RESULTS, RUNS, circumstances
from benchmarks.harness.floor import floor_of
from benchmarks.harness.model import make_model, make_tokenizer
from benchmarks.harness.registry import PARITY, REFERENCE
from benchmarks.harness.report import rows_of, table
from benchmarks.harness.shapes import SHAPES
from benchmarks.harness.workload import Sizes, make_workload

PAIRS = (("ours-vllm", "ours"), ("ours", REFERENCE), ("ours-vllm", REFERENCE))
PARTS = ("likelihood", "cyclic")


def main() -> None:
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    root = RUNS / "parity"
    root.mkdir(parents=True, exist_ok=True)
    model, tokenizer = _model(options, root)
    sizes = Sizes(options.prompt, options.response, options.n, options.sets, options.mixed, selection=True)
    workload = make_workload(tokenizer, sizes, root)
    sets = json.loads(workload.read_text())
    floor = floor_of(SHAPES[options.model], sets) if options.model in SHAPES else None
    bench = Bench(options, model, workload, PARITY, PARTS)
    start = circumstances("parity", options.device)  # before the runs: names the measured code

    def write() -> dict[str, Any]:
        pairs, unusable = compare(bench, sets)
        result = {
            **start,
            "model": {"shape": options.model, "dtype": options.dtype},
            "workload": asdict(sizes),
            "engines": {contender: kind.description for contender, kind in PARITY.items()},
            "pairs": pairs,
            "rows": rows_of({key: found for key, found in bench.runs.items() if key[0] != REFERENCE}, floor),
            "failed": bench.failed | unusable,
            "versions": bench.versions,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")
        return result

    bench.measure(after_each_run=write)
    result = write()
    print(table(result["rows"], {}), shown(result["pairs"]), sep="\n\n")
    if result["failed"]:
        sys.exit("; ".join(f"{name}: {why}" for name, why in result["failed"].items()))


def _model(options: argparse.Namespace, root: Path) -> tuple[Path, Any]:
    """The given directory, or one with random weights of the named shape, and its tokenizer."""
    if options.model in SHAPES:
        return make_model(options.model, options.dtype, options.device, root.parent), make_tokenizer(root.parent)
    folder = Path(options.model).resolve()
    return folder, AutoTokenizer.from_pretrained(folder)


def compare(bench: Bench, sets: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The comparison of each pair of engines, and the reason for each engine without usable scores."""
    scores: dict[str, tuple[agreement.Scores, agreement.Scores]] = {}
    failed: dict[str, str] = {}
    for contender in (contender for contender in PARITY if contender not in bench.failed):
        try:
            likelihoods = _read(bench, contender, "likelihood", agreement.mean_log_likelihoods, sets)
            scores[contender] = (
                likelihoods,
                _read(bench, contender, "cyclic", agreement.selection_probabilities, sets),
            )
        except (agreement.MissingScore, agreement.NonFiniteScore) as reason:
            failed[f"{contender}'s scores"] = f"{type(reason).__name__}: {reason}"
    pairs = [
        {
            "one": one,
            "other": other,
            "likelihood": agreement.compare_likelihoods(scores[one][0], scores[other][0]),
            "selection": agreement.compare_selections(scores[one][1], scores[other][1]),
        }
        for one, other in PAIRS
        if one in scores and other in scores
    ]
    return pairs, failed


def _read(
    bench: Bench, contender: str, part: str, meaning: Callable[..., agreement.Scores], sets: list[dict[str, Any]]
) -> agreement.Scores:
    file = bench.scores_of(contender, part)
    if (contender, part) not in bench.runs or not file.exists():
        raise agreement.MissingScore(f"{part} was not scored")
    with np.load(file) as found:
        return meaning(found, sets)


def shown(pairs: list[dict[str, Any]]) -> str:
    """One line a pair."""
    lines = []
    for pair in pairs:
        nats, chosen = pair["likelihood"], pair["selection"]
        spread = " ".join(f"{nats[f'{name}_nats']:.1e}" for name in ("median", "p99", "largest"))
        lines.append(
            f"{pair['one']} and {pair['other']}: {spread} nats (median, p99, largest), same ranking"
            f" {nats['same_ranking']:.1%} of {nats['sets']} sets, pairs {nats['same_pairs']:.2%};"
            f" selection probability {chosen['median']:.1e} {chosen['p99']:.1e} {chosen['largest']:.1e}"
        )
    return "\n".join(lines)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each rendered prompt")
    parser.add_argument("--response", type=int, default=128, help="tokens of each response, its end of turn included")
    parser.add_argument("-n", type=int, default=4, help="responses of a set")
    parser.add_argument("--sets", type=int, default=16)
    parser.add_argument("--mixed", action="store_true", help="draw all lengths log-uniformly from 16 to 2000")
    parser.add_argument("--model", default="smollm2-135m", help=f"a directory, or one of {', '.join(SHAPES)}")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=900, help="most seconds of one run")
    parser.add_argument("--vllm-python", type=Path, help="default: .venv-vllm/bin/python")
    parser.add_argument("--out", type=Path, default=RESULTS / "parity.json")
    parser.set_defaults(contenders=list(PARITY), sequential=True, selection=True, reference_sets=0)
    parser.set_defaults(connections=1, lm_eval_batch_size=1, lm_eval_python=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
