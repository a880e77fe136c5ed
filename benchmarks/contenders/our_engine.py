"""Our engines as contenders: how they are loaded, and the parts that are timed."""

import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders.worker import Job, Part
from pad_teacher.engines.base import Engine
from pad_teacher.engines.queries import Questions, TokenSet

Sets = Sequence[dict[str, Any]]

# Pairs in one order are the authors' form. One question with all responses is the cheapest form. All its rotations
# are the service's default.
FORMS = ("pairwise", "single", "cyclic")

# Eager, so that vLLM starts in seconds: compiling takes minutes and gains little for scoring in large steps.
VLLM_CPU = {"enforce_eager": True, "block_size": 32}
# Leaves memory for the matrix products that this process times on the same device.
VLLM_CUDA = {"enforce_eager": True, "gpu_memory_utilization": 0.8}


def embedded(job: Job) -> Engine:
    """The embedded engine with its default limits."""
    from pad_teacher.engines.embedded.engine import TransformersEngine

    return TransformersEngine.load(job.model, revision=None, dtype=job.dtype, device=job.device)


def on_vllm(job: Job) -> Any:
    """The engine on vLLM with the service's default limits.

    Raises:
        RuntimeError: this vLLM was built for another type of device.
    """
    on_cpu = job.device == "cpu"
    if on_cpu:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    # Without this flashinfer compiles a sampler, which needs CUDA's compiler; nothing is sampled here.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm.platforms import current_platform

    from pad_teacher.engines.vllm.engine import VllmEngine

    if current_platform.device_type != job.device.partition(":")[0]:
        raise RuntimeError(f"this vLLM runs on {current_platform.device_type or 'no device'}, not on {job.device}")
    limits: dict[str, Any] = {"max_context_tokens": None, "max_batch_tokens": 8192}
    options = VLLM_CPU if on_cpu else VLLM_CUDA
    return VllmEngine.load(job.model, revision=None, dtype=job.dtype, options=options, **limits)


def forget_prompts(engine: Any) -> None:
    """Empty vLLM's prefix cache, so that a run cannot reuse the previous one."""
    engine._wait(engine._llm.reset_prefix_cache())


def scorer_of_vllm() -> int:
    """The id of vLLM's process that this one started; the model runs in it or in its children."""
    children = [child.pid for child in multiprocessing.active_children() if child.pid]
    return children[0] if children else os.getpid()


def parts_of(engine: Engine, job: Job, before: Any = None) -> dict[str, Part]:
    """All sets in one call: likelihoods, questions of each form, and both as one batch as the service runs them."""
    sets = job.sets
    parts = {"likelihood": Part(lambda: likelihood(engine, sets), lambda found: found, before=before)}
    for form in FORMS if job.selection else ():
        parts[form] = Part(lambda form=form: engine.score(_questions(sets, form)), lambda found: found, before=before)
        parts[f"likelihood + {form}"] = Part(
            lambda form=form: engine.score([*_token_sets(sets), *_questions(sets, form)]),
            lambda found: found[: len(sets)],
            before=before,
        )
    likelihood(engine, [sets[0] | {"response_ids": sets[0]["response_ids"][:1]}])  # warms up
    return parts


def likelihood(engine: Engine, sets: Sets) -> list[list[Any]]:
    """Log-probabilities [set][response][token]."""
    return engine.token_logprobs(_token_sets(sets))


def _token_sets(sets: Sets) -> list[TokenSet]:
    return [TokenSet(item["prompt_ids"], item["response_ids"]) for item in sets]


def _questions(sets: Sets, form: str) -> list[Questions]:
    return [Questions([asked["ids"] for asked in item[form]], item[form][0]["labels"]) for item in sets]
