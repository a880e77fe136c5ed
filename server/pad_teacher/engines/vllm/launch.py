"""From a checkpoint and the user's arguments to a running AsyncLLM; the only file that imports vLLM."""
# pyright: standard
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# vLLM is an extra: type checks run without it, and take this folder for it.

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import structlog

from pad_teacher.engines.vllm.options import check, headroom
from pad_teacher.engines.vllm.requests import MOST_IDS, VllmRequest, sampling_params
from pad_wire.completions import MAX_LOGPROBS

log = structlog.get_logger()

BEYOND_TEXT = 2  # positions: the placeholder after an echoed text, and the token that every request must make
CPU_CACHE_BYTES = 4 * 2**30  # for keys and values on a CPU; vLLM would take most of the machine's memory
V2_RUNNER_ROWS = 1024  # rows that vLLM's second model runner turns into log-probabilities at a time

# Defaults for the environment; vLLM reads them when it is imported.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would not copy this process' threads
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # else a core stays idle
}


def prepare(options: Mapping[str, Any]) -> None:
    """Import vLLM and check the user's arguments, before anything large is read.

    Raises:
        BadOption: if one of them cannot be given.
        OSError: if vLLM is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import AsyncEngineArgs
    except ImportError as error:
        raise OSError(f"--engine vllm needs vLLM ({error}): pip install 'pad-service[server,vllm]'") from None
    check(options, (field.name for field in fields(AsyncEngineArgs)))


async def start(arguments: dict[str, Any]) -> Any:
    """Start an AsyncLLM on the running event loop."""
    from vllm.v1.engine.async_llm import AsyncLLM

    from vllm import AsyncEngineArgs

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))


def prompt_and_params(request: VllmRequest) -> tuple[Any, Any]:
    """Prompt and sampling parameters of one request, as vLLM takes them."""
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind

    from vllm import SamplingParams

    params = SamplingParams(**sampling_params(request), output_kind=RequestOutputKind.FINAL_ONLY)
    return tokens_input(request.ids), params


def arguments(
    directory: Path, dtype: str, context: int | None, batch_tokens: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments for vLLM: the user's, with those that the service needs.

    Raises:
        ValueError: if the model does not fit the device.
    """
    from vllm.platforms import current_platform

    from vllm import AsyncEngineArgs

    overrides = options.get("hf_overrides") or {}
    given: dict[str, Any] = {"enable_prefix_caching": True, "disable_log_stats": True} | dict(options)
    given |= {
        "model": str(directory),
        "skip_tokenizer_init": True,
        "max_logprobs": max(MAX_LOGPROBS, MOST_IDS),
        "logprobs_mode": "raw_logprobs",
        # Logits in 16 bits would round each log-probability to a multiple of 1/16 or 1/8.
        "hf_overrides": {"head_dtype": "float32"} | overrides if isinstance(overrides, dict) else overrides,
    }
    on_cpu = current_platform.is_cpu()
    if on_cpu and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        given.setdefault("kv_cache_memory_bytes", CPU_CACHE_BYTES)
    draft = AsyncEngineArgs(**given, dtype=dtype).create_engine_config()
    model: Any = draft.model_config
    own_dtype = str(getattr(model.hf_text_config, "dtype", None)).removeprefix("torch.")
    # vLLM's auto would load a float32 checkpoint in 16 bits.
    given["dtype"] = "float32" if dtype == "auto" and (on_cpu or own_dtype == "float32") else dtype
    given["max_model_len"] = min(model.max_model_len, (context or model.max_model_len) + BEYOND_TEXT)
    planned = headroom(
        vocabulary=model.get_vocab_size(),
        batch_tokens=batch_tokens,
        context_tokens=given["max_model_len"],
        device_bytes=current_platform.get_device_total_memory(),
        gpu_memory_utilization=draft.cache_config.gpu_memory_utilization,
        rows_at_once=V2_RUNNER_ROWS if draft.use_v2_model_runner else None,
    )
    log.info(
        "memory kept free for log-probabilities",
        mib=planned.log_softmax_bytes >> 20,
        max_num_batched_tokens=planned.batch_tokens,
        gpu_memory_utilization=round(planned.gpu_memory_utilization, 3),
    )
    given["max_num_batched_tokens"] = planned.batch_tokens
    given["gpu_memory_utilization"] = planned.gpu_memory_utilization
    return given
