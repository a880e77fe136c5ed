"""From hidden states to log-probabilities in float32, never holding more than one chunk of logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pad_teacher.engines.embedded import packed_linear
from pad_teacher.engines.embedded.rows import Row, RowLogprobs

ROWS = 512  # positions a chunk
COLUMNS = 32_768  # vocabulary entries a chunk: 64 MiB of float32 logits, twice while they are normalised
COLUMNS_PACKED = 8_192  # on a CPU a chunk that its cache holds is normalised in half the time


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output projection in chunks of the vocabulary, with what its architecture does to logits afterwards.

    ``packed`` says that the chunks are laid out for oneDNN.
    """

    chunks: list[tuple[int, int, Tensor]]  # [start, stop) of the vocabulary, weights
    bias_V: Tensor | None
    scale: float
    softcap: float | None
    packed: bool = False

    @classmethod
    def of(cls, model: Any, *, packed: bool = False) -> "Head":
        """Read the projection of a transformers causal language model."""
        layer = model.get_output_embeddings()
        config = model.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0  # Cohere multiplies
        scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite divides
        softcap = getattr(config, "final_logit_softcapping", None)
        chunks: list[tuple[int, int, Tensor]] = []
        for weight_C_D in layer.weight.split(COLUMNS_PACKED if packed else COLUMNS):
            start = chunks[-1][1] if chunks else 0
            laid_out = packed_linear.pack(weight_C_D) if packed else weight_C_D
            chunks.append((start, start + len(weight_C_D), laid_out))
        return cls(chunks, getattr(layer, "bias", None), scale, softcap, packed)

    @property
    def vocabulary(self) -> int:
        """Number of tokens it knows."""
        return self.chunks[-1][1]

    def logits(self, hidden_K_D: Tensor, start: int, stop: int, weight_C_D: Tensor) -> Tensor:
        """Float32 logits ``[K, C]`` of one of the chunks."""
        if self.packed:
            logits = packed_linear.multiply(hidden_K_D, weight_C_D)
        elif hidden_K_D.is_cuda and hidden_K_D.dtype == weight_C_D.dtype != torch.float32:
            logits = torch.mm(hidden_K_D, weight_C_D.T, out_dtype=torch.float32)  # 16-bit factors, sums in float32
        else:
            logits = hidden_K_D.float() @ weight_C_D.float().T
        if self.bias_V is not None:
            logits += self.bias_V[start:stop].float()
        if self.scale != 1.0:
            logits *= self.scale
        return logits if self.softcap is None else logits.div_(self.softcap).tanh_().mul_(self.softcap)


def chunk_bytes(head: Head, predictions: int) -> int:
    """Bytes held while a chunk is normalised: its logits and their log-softmax, or the logits of two chunks."""
    largest = max(stop - start for start, stop, _ in head.chunks)
    return 2 * 4 * min(predictions, ROWS) * largest


def project(head: Head, hidden_K_D: Tensor, rows: Sequence[Row]) -> list[RowLogprobs]:
    """What ``rows`` ask of their predictions, whose hidden states stand in ``hidden_K_D`` row after row."""
    # Rows may ask about different numbers of targets: repeat the first to fill, and cut what was filled.
    width, top = max(row.targets_K_M.shape[1] for row in rows), max(row.top for row in rows)
    targets_K_M = torch.from_numpy(
        np.concatenate([np.pad(t, ((0, 0), (0, width - t.shape[1])), "edge") for t in (r.targets_K_M for r in rows)])
    ).to(hidden_K_D.device)
    chunks = [
        _project_rows(head, hidden, targets, top)
        for hidden, targets in zip(hidden_K_D.split(ROWS), targets_K_M.split(ROWS), strict=True)
    ]
    found, ids, values = (torch.cat(parts).cpu().numpy() for parts in zip(*chunks, strict=True))
    ends = np.cumsum([len(row.targets_K_M) for row in rows])
    return [
        RowLogprobs(
            found[end - len(row.targets_K_M) : end, : row.targets_K_M.shape[1]],
            ids[end - len(row.targets_K_M) : end, : row.top],
            values[end - len(row.targets_K_M) : end, : row.top],
        )
        for row, end in zip(rows, ends, strict=True)
    ]


def _project_rows(head: Head, hidden: Tensor, targets: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-softmax over the whole vocabulary, read at ``targets`` and at the ``top`` likeliest tokens."""
    log_total = hidden.new_full((len(hidden), 1), -torch.inf, dtype=torch.float32)
    picked = hidden.new_zeros(targets.shape, dtype=torch.float32)
    best, best_ids = picked.new_empty((len(hidden), 0)), targets.new_empty((len(hidden), 0))
    for start, stop, weight_C_D in head.chunks:
        logits = head.logits(hidden, start, stop, weight_C_D)
        # log_softmax is one fused pass and logsumexp four; at the largest logit it is small, and so exact.
        largest, at = logits.max(-1, keepdim=True)
        log_total = torch.logaddexp(log_total, largest - logits.log_softmax(-1).gather(-1, at))
        here = (targets >= start) & (targets < stop)
        picked = torch.where(here, logits.gather(-1, (targets - start).clamp(0, stop - start - 1)), picked)
        if top:
            values, ids = logits.topk(min(top, stop - start), -1)
            best, place = torch.cat([best, values], -1).topk(min(top, best.shape[-1] + values.shape[-1]), -1)
            best_ids = torch.cat([best_ids, ids + start], -1).gather(-1, place)
    return picked - log_total, best_ids, best - log_total
