"""Starts vLLM for the two contenders that use its own ``prompt_logprobs``."""

import os
from importlib.metadata import packages_distributions
from typing import Any

from benchmarks.contenders.worker import Job

TOKENS_AT_ONCE = 4096  # of one forward pass; bounds the log-softmax over the vocabulary


def start(job: Job) -> Any:
    """An ``LLM`` in this process."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    if job.device == "cpu":
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = (
            f"0-{(os.cpu_count() or 1) - 1}"  # vLLM's default leaves a core idle
        )
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "4"
    # Without this flashinfer compiles a sampler, which needs CUDA's compiler.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM  # reads the environment when imported

    longest = max(len(item["prompt_ids"]) + len(ids) for item in job.sets for ids in item["response_ids"])
    # On a GPU this leaves memory for the log-softmax over prompts, which vLLM does not plan for, and for the timed
    # matrix products.
    own: dict[str, Any] = {"block_size": 32} if job.device == "cpu" else {"gpu_memory_utilization": 0.8}
    return LLM(
        model=job.model,
        dtype=job.dtype,
        enforce_eager=True,
        max_model_len=longest + 1,  # a request must ask for one new token
        max_num_batched_tokens=TOKENS_AT_ONCE,
        disable_log_stats=True,
        **own,
    )


def packages() -> tuple[str, ...]:
    """The distributions to report, by the names they are installed under here."""
    return ("torch", "transformers", packages_distributions()["vllm"][0])


def read(rows: Any, ids: list[int], first: int) -> list[float]:
    """Log-probabilities of ``ids[first:]`` from a request's ``prompt_logprobs``, which has one row an id."""
    return [rows[i][ids[i]].logprob for i in range(first, len(ids))]
