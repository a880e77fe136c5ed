"""Which of vLLM's arguments a user may give, and the memory that vLLM does not plan for."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pad_teacher.errors import TeacherError

_BY_FLAG = {
    "model": "--model",
    "model_weights": "--model",
    "served_model_name": "--name",
    "tokenizer": "--model",
    "tokenizer_revision": "--revision",
    "revision": "--revision",
    "dtype": "--dtype",
    "max_model_len": "--max-context-tokens",
    "max_num_batched_tokens": "--max-batch-tokens",
    "max_num_queued_reqs": "--max-queued-tokens",
    "max_num_queued_tokens": "--max-queued-tokens",
}
_SCORES = "scores would no longer be the model's own log-probabilities"
_ONLY_PROMPTS = "the service scores texts and generates none"
_REFUSED = {
    "max_logprobs": "the service sets it",
    "skip_tokenizer_init": "the service tokenises itself",
    "logprobs_mode": _SCORES,
    "kv_sharing_fast_prefill": _SCORES,
    "watermark_config": _SCORES,
    "kv_transfer_config": "rows computed elsewhere have no log-probabilities",
    "long_prefill_token_threshold": "it can put uninitialised memory in place of log-probabilities",
    "long_prefill_token_threshold_adaptive": "it can put uninitialised memory in place of log-probabilities",
    "speculative_config": _ONLY_PROMPTS,
    "spec_method": _ONLY_PROMPTS,
    "spec_model": _ONLY_PROMPTS,
    "spec_tokens": _ONLY_PROMPTS,
    "diffusion_config": _ONLY_PROMPTS,
    "return_sampling_mask": _ONLY_PROMPTS,
    "runner": _ONLY_PROMPTS,
    "convert": _ONLY_PROMPTS,
    "trust_remote_code": "a model's own code is never run",
}
# These decide scores, so they are in the fingerprint. Replicas may differ in all others and still be one teacher.
IDENTITY = ("quantization", "quantization_config", "hf_overrides", "load_format", "model_impl")


class BadOption(TeacherError):
    """An argument that vLLM does not have, or that the service cannot allow; one line."""


def check(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse arguments that vLLM does not know or that would break the scores.

    Raises:
        BadOption: names the first such argument and the remedy.
    """
    names = {name for name in known if not name.startswith("_")}
    for name, value in options.items():
        flag = f"--vllm.{name.replace('_', '-')}"
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean --vllm.{near[0].replace('_', '-')}?" if near else ""
            raise BadOption(f"{flag}: vLLM has no such argument{hint}")
        if name in _BY_FLAG:
            raise BadOption(f"{flag} cannot be given: use {_BY_FLAG[name]}")
        if name in _REFUSED:
            raise BadOption(f"{flag} cannot be given: {_REFUSED[name]}")
        if name == "load_format" and value == "dummy":
            raise BadOption(f"{flag} cannot be given: the weights would be random numbers")
        if name == "kv_cache_dtype" and value != "auto":
            raise BadOption(f"{flag} cannot be given: keys and values in fewer bits change every score")


# A float32 logit, its log-softmax, and the comparison that ranks the token.
BYTES_PER_LOGIT = 4 + 4 + 1
LARGEST_SHARE = 0.15  # of the device's memory
FRAGMENTS = 0.04  # of the device's memory, lost to fragmentation in vLLM's allocator
FEWEST_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Headroom:
    """Bytes to keep free for the log-softmax over prompts, and the limits for vLLM that keep them free."""

    log_softmax_bytes: int
    batch_tokens: int
    gpu_memory_utilization: float


def headroom(
    *,
    vocabulary: int,
    batch_tokens: int,
    context_tokens: int,
    device_bytes: int,
    gpu_memory_utilization: float,
    rows_at_once: int | None,
) -> Headroom:
    """Plan memory for log-probabilities of prompts, which vLLM's own profiling leaves out.

    Args:
        vocabulary: entries of a row of logits.
        batch_tokens: most tokens of a step; fewer are planned if their rows take too much memory.
        context_tokens: most tokens of a request; a step computes the rows of its requests one request at a time.
        device_bytes: memory of one device.
        gpu_memory_utilization: the share of it that vLLM may plan with; less is planned if too little would be free.
        rows_at_once: rows of a chunk, if the model runner takes them in chunks.

    Raises:
        ValueError: if not even a small step fits.
    """
    row = BYTES_PER_LOGIT * vocabulary
    most_rows = int(LARGEST_SHARE * device_bytes / row)
    fewest = min(FEWEST_TOKENS, batch_tokens)
    if most_rows < fewest:
        raise ValueError(
            f"the log-softmax of {fewest} tokens over {vocabulary} takes {fewest * row >> 20} MiB, more than"
            f" {LARGEST_SHARE:.0%} of the device's {device_bytes >> 20} MiB: use a larger device"
        )
    rows = min(batch_tokens, context_tokens, rows_at_once or batch_tokens)
    if rows > most_rows:
        rows = batch_tokens = most_rows
    free = rows * row
    return Headroom(free, batch_tokens, min(gpu_memory_utilization, 1 - FRAGMENTS - free / device_bytes))
