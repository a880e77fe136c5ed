"""Scoring from a transformers model's full logits, as most code does it. Shared by several contenders."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.contenders.worker import Job


def load_model(job: Job) -> Any:
    """The model, loaded as its users load it."""
    model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.dtype))
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the fused kernels omit the soft cap
    return model.to(job.device).eval()


@torch.inference_mode()
def score(model: Any, prompt: list[int], responses: Sequence[list[int]]) -> list[list[float]]:
    """Log-probability of each token of each response, as one batch padded on the right."""
    rows = [prompt + response for response in responses]
    longest = max(map(len, rows))
    ids_B_L = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    mask_B_L = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    logits_B_L_V = model(input_ids=ids_B_L, attention_mask=mask_B_L, use_cache=False).logits
    log_probs_B_L_V = logits_B_L_V[:, :-1].float().log_softmax(-1)
    found_B_L = log_probs_B_L_V.gather(-1, ids_B_L[:, 1:, None])[..., 0]
    return [found_B_L[i, len(prompt) - 1 : len(row) - 1].tolist() for i, row in enumerate(rows)]


@torch.inference_mode()
def choose(model: Any, question: dict[str, list[int]]) -> list[float]:
    """Log-probability of each option's letter after one question."""
    ids_B_L = torch.tensor([question["ids"]], device=model.device)
    logits_V = model(input_ids=ids_B_L, use_cache=False, logits_to_keep=1).logits[0, -1]
    return logits_V.float().log_softmax(-1)[question["labels"]].tolist()
