"""Calculates the memory and the rates of real teachers on real GPUs. Nothing here is measured.

    python -m benchmarks.sizing

The cost of a response set is the formula of docs/measurements/scoring.md. The constants below are the assumptions,
each with its source. Writes benchmarks/results/sizing.json, which docs/measurements/sizing.md quotes.
"""

import json
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from benchmarks.harness.environment import RESULTS
from benchmarks.harness.floor import floor_of
from benchmarks.harness.shapes import SHAPES, Shape
from pad_teacher.engines.vllm.options import BYTES_PER_LOGIT

GIB = 2**30
BYTES = 2  # of a bfloat16

SHARE = 0.75  # of the rate of large products, reached by products with weights: measured on a CPU
ATTENTION_SHARE = SHARE * 0.40 / 0.97  # of the same rate, reached by attention: measured on a CPU
PEAK_SHARE = 700 / 989  # of a GPU's stated bfloat16 peak, reached by large products: assumed
BATCH_TOKENS = 4096  # of one forward: --max-batch-tokens, and vLLM's max_num_batched_tokens
CACHE_TOKENS = 16_384  # keys and values of four batches, so that cached prompts are reused
RUNTIME_GIB = 2.5  # CUDA's context, communication buffers, captured graphs: assumed
USABLE = 0.92  # of a GPU's memory

PROMPT, N = 256, 4
RESPONSES = (128, 256, 512)
QUESTION = 33  # tokens of a multiple-choice question apart from request and options

# A student job on a GPU of its own: a 2B student, one H100.
STUDENT = "gemma-2-2b"
TRAINING_SHARE = 0.4  # of the rate of large products: assumed
STEP_SECONDS = 0.025  # to sample one token of all responses of a batch: assumed
TOGETHER = 64  # responses of a sampling batch


@dataclass(frozen=True, slots=True)
class Gpu:
    """A data centre GPU, by its data sheet."""

    memory_gib: float
    peak: float  # FLOP/s in bfloat16, dense
    link: float  # bytes/s to the others of its machine, one way

    @property
    def products(self) -> float:
        """FLOP/s that large products are assumed to reach."""
        return self.peak * PEAK_SHARE


GPUS = {
    "A100 80 GB": Gpu(79, 312e12, 300e9),
    "H100 80 GB": Gpu(79, 989e12, 450e9),
    "H200 141 GB": Gpu(139, 989e12, 450e9),
}
TEACHERS = ("gemma-2-9b", "gemma-2-27b", "llama-3.1-70b")


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB on each GPU, and the tokens of keys and values that fit in the cache."""

    weights: float
    activations: float
    log_softmax: float
    runtime: float
    cache: float
    cache_tokens: int


def memory_of(shape: Shape, gpu: Gpu, count: int) -> Memory:
    """Memory on each of ``count`` GPUs. Logits are gathered, so each GPU holds the whole log-softmax."""
    embeddings = shape.head_weights * (1 if shape.tied else 2)
    weights = (shape.layer_weights + embeddings) * BYTES / count / GIB
    activations = BATCH_TOKENS * (3 * shape.intermediate / count + 3 * shape.hidden) * BYTES / GIB
    log_softmax = BATCH_TOKENS * shape.vocabulary * BYTES_PER_LOGIT / GIB
    cache = USABLE * gpu.memory_gib - weights - activations - log_softmax - RUNTIME_GIB
    token = 2 * shape.layers * shape.kv_heads * shape.head_size * BYTES / count
    return Memory(weights, activations, log_softmax, RUNTIME_GIB, cache, max(0, int(cache * GIB / token)))


def least_gpus(shape: Shape, gpu: Gpu) -> int:
    """The smallest power of two of GPUs that hold the teacher and ``CACHE_TOKENS``."""
    return next(k for k in (1, 2, 4, 8) if memory_of(shape, gpu, k).cache_tokens >= CACHE_TOKENS)


def seconds_of(shape: Shape, gpu: Gpu, count: int, response: int, selection: bool) -> float:
    """Seconds of one response set: its likelihoods and, with ``selection``, all N rotations of one question."""
    asked = [{"prompt_ids": range(PROMPT), "response_ids": [range(response)] * N}]
    if selection:
        # The request once, then each rotation: all options and the position that predicts the letter.
        rotation = QUESTION + N * response
        asked.append({"prompt_ids": range(PROMPT), "response_ids": [range(rotation + 1)] * N})
    floor = floor_of(shape, asked[:1])
    linear, attention, read = floor.flop, floor.attention, PROMPT + N * (response - 1)
    if selection:
        more = floor_of(shape, asked[1:])
        letters = 2 * shape.head_weights * N
        linear, attention = linear + more.linear + letters, attention + more.attention
        read += PROMPT + N * rotation
    compute = linear / SHARE / gpu.products + attention / ATTENTION_SHARE / gpu.products
    return compute / count + read * _exchange_seconds(shape, gpu, count)


def _exchange_seconds(shape: Shape, gpu: Gpu, count: int) -> float:
    """Seconds of one token: two sums of its hidden state over all GPUs in each layer, not overlapped."""
    sent = 2 * (count - 1) / count * shape.hidden * BYTES
    return shape.layers * 2 * sent / gpu.link


def student_seconds(response: int) -> float:
    """Seconds of a student job's own work for one set: sampling and training."""
    shape, gpu = SHAPES[STUDENT], GPUS["H100 80 GB"]
    sampling = response * STEP_SECONDS * N / TOGETHER
    weights = shape.layer_weights + shape.head_weights
    # One forward pass, one recomputed from checkpoints, and a backward pass of twice that cost.
    training = 8 * weights * N * (PROMPT + response) / (TRAINING_SHARE * gpu.products)
    return sampling + training


def row(name: str, kind: str) -> dict[str, Any]:
    """One teacher on the fewest GPUs of one type."""
    shape, gpu = SHAPES[name], GPUS[kind]
    count = least_gpus(shape, gpu)
    rates = []
    for response, selection in product(RESPONSES, (False, True)):
        sets = 1 / seconds_of(shape, gpu, count, response, selection)
        jobs = sets * student_seconds(response)
        rates.append({"response": response, "selection": selection, "sets_per_second": sets, "jobs": jobs})
    return {"teacher": name, "gpu": kind, "gpus": count, **asdict(memory_of(shape, gpu, count)), "rates": rates}


def main() -> None:
    students = {str(response): 1 / student_seconds(response) for response in RESPONSES}
    result = {
        "command": "python -m benchmarks.sizing",
        "note": "calculated, not measured",
        "prompt": PROMPT,
        "n": N,
        "student_sets_per_second": students,
        "rows": [row(name, kind) for name in TEACHERS for kind in GPUS],
    }
    (RESULTS / "sizing.json").write_text(json.dumps(result, indent=2) + "\n")
    for found in result["rows"]:
        rates = "  ".join(f"{rate['sets_per_second']:6.1f}" for rate in found["rates"])
        print(f"{found['teacher']:14} {found['gpus']} x {found['gpu']:12} cache {found['cache_tokens']:8,}  {rates}")


if __name__ == "__main__":
    main()
