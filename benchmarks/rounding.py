"""Distance of each contender's numbers from float64, and the part that matrix products contribute.

    python -m benchmarks.rounding

The default workload on a CPU in float32. The contenders are plain transformers and this engine, which packs the
weights of all but the first layers for oneDNN, and the same engine with all layers packed and with none. Measures the
error and speed of one product of each size too. Writes results/rounding.json.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM

from benchmarks.harness.environment import RESULTS
from benchmarks.harness.model import make_model, make_tokenizer
from benchmarks.harness.workload import Sizes, make_workload
from pad_teacher.engines.embedded import packed_linear
from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.queries import TokenSet

SETS = 8
PRODUCTS = {"queries, outputs": (576, 576), "gates": (576, 1536), "down": (1536, 576)}  # inner, outer
ROWS, ROUNDS = 8192, 9


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = make_model("smollm2-135m", "float32", "cpu", root)
        workload = make_workload(make_tokenizer(root), Sizes(256, 128, 4, 8, mixed=False, selection=False), root)
        asked = [model, workload, root / "exact.npz", "--sets", str(SETS)]
        subprocess.run([sys.executable, "-m", "benchmarks.harness.reference", *map(str, asked)], check=True)
        exact = np.load(root / "exact.npz")
        sets = [TokenSet(item["prompt_ids"], item["response_ids"]) for item in json.loads(workload.read_text())]
        contenders = {name: _error(contender(model, sets[:SETS]), exact) for name, contender in CONTENDERS.items()}
    products = {name: _product(*sizes) for name, sizes in PRODUCTS.items()}
    result = {
        "command": "python -m benchmarks.rounding",
        "torch": torch.__version__,
        "contenders": contenders,
        "products": products,
    }
    (RESULTS / "rounding.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


@torch.inference_mode()
def _plain(model: Path, sets: list[TokenSet]) -> list[list[Any]]:
    decoder: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def score(prompt: list[int], response: list[int]) -> Tensor:
        logits = decoder(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]

    return [[score(item.prompt_ids, ids) for ids in item.response_ids] for item in sets]


def _ours(model: Path, sets: list[TokenSet]) -> list[list[Any]]:
    return TransformersEngine(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)).token_logprobs(sets)


def _all_packed(model: Path, sets: list[TokenSet]) -> list[list[Any]]:
    share, packed_linear.PLAIN_SHARE = packed_linear.PLAIN_SHARE, 0
    try:
        return _ours(model, sets)
    finally:
        packed_linear.PLAIN_SHARE = share


def _unpacked(model: Path, sets: list[TokenSet]) -> list[list[Any]]:
    usable, packed_linear.usable = packed_linear.usable, lambda _: False
    try:
        return _ours(model, sets)
    finally:
        packed_linear.usable = usable


CONTENDERS: dict[str, Callable[[Path, list[TokenSet]], list[list[Any]]]] = {
    "plain transformers": _plain,
    "this engine": _ours,
    "this engine, all layers packed": _all_packed,
    "this engine, none packed": _unpacked,
}


def _error(found: list[list[Any]], exact: Any) -> dict[str, float]:
    errors = np.concatenate(
        [
            np.asarray(values, np.float64) - exact[f"{s}.{r}"]
            for s, responses in enumerate(found)
            for r, values in enumerate(responses)
        ]
    )
    return {"root_mean_square": float(np.sqrt(np.mean(errors**2))), "largest": float(np.abs(errors).max())}


def _product(inner: int, outer: int) -> dict[str, dict[str, float]]:
    """Root-mean-square error over the exact product's root mean square, and FLOP a second, by kind of product."""
    inputs, weight = torch.randn(ROWS, inner), torch.randn(outer, inner) / inner**0.5
    exact, packed = inputs.double() @ weight.double().T, packed_linear.pack(weight)
    products = {"plain": lambda: linear(inputs, weight), "packed": lambda: packed_linear.multiply(inputs, packed)}
    seconds: dict[str, list[float]] = {name: [] for name in products}
    for _ in range(ROUNDS):
        for name, product in products.items():
            began = time.perf_counter()
            product()
            seconds[name].append(time.perf_counter() - began)
    return {
        name: {
            "error": float((product().double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()),
            "flop_per_second": 2 * ROWS * inner * outer / median(seconds[name]),
        }
        for name, product in products.items()
    }


if __name__ == "__main__":
    from pad_teacher.runtime.allocator import keep_freed_memory

    keep_freed_memory()
    main()
