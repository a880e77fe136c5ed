"""How the cost of response sets grows with prompt, response and n: a formula next to measurements.

    python -m benchmarks.growth [ROW ...]      all rows, or only the given ones, counted from 0

seconds = (layers + projection) / (a x peak) + attention / (b x peak) + c x tokens x layers x hidden, in FLOP of
``harness.floor`` over the peak rate of matrix products, measured next to each run. The constants are fitted on the
first workload alone, of which a profile separates the three parts; all other rows are predictions.
Writes results/growth.json.
"""

import json
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.harness.environment import RESULTS
from benchmarks.harness.floor import floor_of
from benchmarks.harness.measure import gemm_flop_per_second
from benchmarks.harness.shapes import SHAPES
from pad_teacher.runtime.allocator import keep_freed_memory

# Shape, prompt, response, n, sets.
WORKLOADS = [
    ("smollm2-135m", 256, 128, 4, 4),
    ("smollm2-135m", 64, 128, 4, 4),
    ("smollm2-135m", 1024, 128, 4, 2),
    ("smollm2-135m", 4096, 128, 4, 1),
    ("smollm2-135m", 256, 128, 1, 6),
    ("smollm2-135m", 256, 128, 16, 1),
    ("smollm2-135m", 1024, 128, 8, 1),
    ("smollm2-135m", 256, 16, 4, 8),
    ("smollm2-135m", 32, 2000, 2, 1),
    ("qwen2.5-0.5b", 256, 128, 4, 2),
    ("qwen2.5-0.5b", 1024, 128, 8, 1),
]
ROUNDS = 3


def main() -> None:
    keep_freed_memory()
    from pad_teacher.engines.queries import TokenSet

    engines: dict[str, Any] = {}
    file = RESULTS / "growth.json"
    again = [int(number) for number in sys.argv[1:]]
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if again else []
    draw = np.random.default_rng(0)
    for number in again or range(len(WORKLOADS)):
        name, prompt, response, n, count = WORKLOADS[number]
        if name not in engines:
            engines[name] = _engine(name)
        engine = engines[name]
        ids = lambda k, top=SHAPES[name].vocabulary: draw.integers(0, top, k).tolist()  # noqa: E731
        sets = [TokenSet(ids(prompt), [ids(response) for _ in range(n)]) for _ in range(count)]
        floor = floor_of(SHAPES[name], [{"prompt_ids": s.prompt_ids, "response_ids": s.response_ids} for s in sets])
        runs = [_run(engine, sets) for _ in range(ROUNDS)]
        tokens = sum(prompt + n * (response - 1) for _ in sets)
        row = (
            {"model": name, "prompt": prompt, "response": response, "n": n, "sets": count, "tokens": tokens}
            | {"seconds": median(s for s, _ in runs), "peak": median(p for _, p in runs)}
            | {"linear": floor.flop, "attention": floor.attention}
        )
        rows[number : number + 1] = [row]
        for each in rows:
            _predict(each, rows[0])
        print(_line(row), flush=True)
        result = {"command": "python -m benchmarks.growth", "rows": rows}
        file.write_text(json.dumps(result, indent=2) + "\n")


def _engine(name: str) -> Any:
    from pad_teacher.engines.embedded.engine import TransformersEngine

    torch.manual_seed(0)
    config = AutoConfig.for_model(SHAPES[name].kind, **SHAPES[name].config())
    return TransformersEngine(AutoModelForCausalLM.from_config(config, dtype=torch.float32))


def _run(engine: Any, sets: Any) -> tuple[float, float]:
    before = gemm_flop_per_second("float32", "cpu")["fastest"]
    began = time.perf_counter()
    engine.token_logprobs(sets)
    seconds = time.perf_counter() - began
    return seconds, max(before, gemm_flop_per_second("float32", "cpu")["fastest"])


def _predict(of: dict[str, Any], first: dict[str, Any], a: float = 0.97, b: float = 0.40) -> None:
    """Products run at ``a`` of the peak and attention at ``b``; the rest of the first row's time gives ``c``."""

    def products(row: dict[str, Any]) -> float:
        return row["linear"] / a / row["peak"] + row["attention"] / b / row["peak"]

    def passes(row: dict[str, Any]) -> float:
        return row["tokens"] * SHAPES[row["model"]].layers * SHAPES[row["model"]].hidden

    c = (first["seconds"] - products(first)) / passes(first)
    of["predicted_seconds"] = products(of) + c * passes(of)
    of["share_of_fastest_floor"] = of["linear"] / of["peak"] / of["seconds"]


def _line(row: dict[str, Any]) -> str:
    ratio = row["seconds"] / row["predicted_seconds"]
    return (
        f"{row['model']:14} prompt {row['prompt']:5} response {row['response']:5} n {row['n']:3} sets {row['sets']:3}"
        f"  {row['seconds']:7.2f} s  {row['tokens'] / row['seconds']:6.0f} tokens/s"
        f"  {row['share_of_fastest_floor']:.0%} of the floor, measured / predicted {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
