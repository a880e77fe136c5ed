"""From hidden states to log-probabilities in float32, never holding more than one chunk of logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROWS = 512  # positions a chunk
COLUMNS = 32_768  # vocabulary entries a chunk: 64 MiB of float32 logits, beside a float32 copy of 16-bit weights


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output projection with what its architecture does to logits afterwards."""

    weight_V_D: Tensor
    bias_V: Tensor | None
    scale: float
    softcap: float | None

    @classmethod
    def of(cls, model: Any) -> "Head":
        """Read the projection of a transformers causal language model."""
        layer = model.get_output_embeddings()
        config = model.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0  # Cohere multiplies
        scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite divides
        return cls(
            layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None)
        )

    def logits(self, hidden_K_D: Tensor, start: int, stop: int) -> Tensor:
        """Float32 logits ``[K, stop-start]`` of one slice of the vocabulary."""
        logits = hidden_K_D @ self.weight_V_D[start:stop].float().T
        if self.bias_V is not None:
            logits += self.bias_V[start:stop].float()
        logits *= self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


@dataclass(frozen=True, slots=True)
class Projected:
    """Log-probabilities of the targets ``[K, M]``, and ids and log-probabilities of the likeliest ``[K, top]``."""

    targets_K_M: Tensor
    top_ids_K_T: Tensor
    top_K_T: Tensor


def project(head: Head, hidden_K_D: Tensor, targets_K_M: Tensor, top: int = 0) -> Projected:
    """Log-softmax over the whole vocabulary, read at ``targets_K_M`` and at the ``top`` likeliest tokens."""
    # Even for no positions at all there is one (empty) chunk, which gives the results their shapes.
    chunks = [
        _project_rows(head, hidden, targets, top)
        for hidden, targets in zip(hidden_K_D.split(ROWS), targets_K_M.split(ROWS), strict=True)
    ]
    return Projected(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _project_rows(head: Head, hidden: Tensor, targets: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    rows, vocabulary = len(hidden), len(head.weight_V_D)
    hidden = hidden.float()
    log_total = hidden.new_full((rows, 1), -torch.inf)
    picked = hidden.new_zeros(targets.shape)
    best, best_ids = hidden.new_empty((rows, 0)), targets.new_empty((rows, 0))
    for start in range(0, vocabulary, COLUMNS):
        stop = min(start + COLUMNS, vocabulary)
        logits = head.logits(hidden, start, stop)
        log_total = torch.logaddexp(log_total, logits.logsumexp(-1, keepdim=True))
        here = (targets >= start) & (targets < stop)
        picked = torch.where(here, logits.gather(-1, (targets - start).clamp(0, stop - start - 1)), picked)
        if top:
            values, ids = logits.topk(min(top, stop - start), -1)
            best, place = torch.cat([best, values], -1).topk(min(top, best.shape[-1] + values.shape[-1]), -1)
            best_ids = torch.cat([best_ids, ids + start], -1).gather(-1, place)
    return picked - log_total, best_ids, best - log_total
