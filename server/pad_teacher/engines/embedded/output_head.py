"""From hidden states to log-probabilities in float32, never holding more than one chunk of logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pad_teacher.engines.embedded import packed_linear
from pad_teacher.engines.embedded.rows import Row, RowLogprobs
from pad_torch.logit_transform import LogitTransform

ROWS = 512  # predictions of a chunk
COLUMNS = 32_768  # vocabulary entries of a chunk: 64 MiB of float32 logits, twice while they are normalised
SORTED_BYTES = 44  # of one likely token while it is sorted: values, ids, and the order
COLUMNS_PACKED = 8_192  # on a CPU: a chunk that fits its cache is normalised in half the time


@dataclass(frozen=True, slots=True)
class OutputHead:
    """A model's output projection in chunks of the vocabulary, and the transform of its logits.

    ``packed``: the chunks are laid out for oneDNN.
    """

    chunks: list[tuple[int, int, Tensor]]  # [start, stop) of the vocabulary, weights
    bias_V: Tensor | None
    transform: LogitTransform
    packed: bool = False

    @classmethod
    def of(cls, model: Any, *, packed: bool = False) -> "OutputHead":
        """Read the projection of a transformers causal language model."""
        layer = model.get_output_embeddings()
        chunks: list[tuple[int, int, Tensor]] = []
        for weight_V_D in layer.weight.split(COLUMNS_PACKED if packed else COLUMNS):
            start = chunks[-1][1] if chunks else 0
            laid_out = packed_linear.pack(weight_V_D) if packed else weight_V_D
            chunks.append((start, start + len(weight_V_D), laid_out))
        transform = LogitTransform.of(model.config.get_text_config())
        return cls(chunks, getattr(layer, "bias", None), transform, packed)

    @property
    def vocabulary(self) -> int:
        """Size of the vocabulary."""
        return self.chunks[-1][1]

    def logits(self, hidden_K_D: Tensor, start: int, stop: int, weight_V_D: Tensor) -> Tensor:
        """Float32 logits ``[K, stop - start]`` of one of the chunks."""
        if self.packed:
            logits = packed_linear.multiply(hidden_K_D, weight_V_D)
        elif hidden_K_D.is_cuda and hidden_K_D.dtype == weight_V_D.dtype != torch.float32:
            logits = torch.mm(hidden_K_D, weight_V_D.T, out_dtype=torch.float32)  # 16-bit factors, sums in float32
        else:
            logits = hidden_K_D.float() @ weight_V_D.float().T
        if self.bias_V is not None:
            logits += self.bias_V[start:stop].float()
        return self.transform.apply_(logits)


def chunk_bytes(head: OutputHead, predictions: int, top: int = 0) -> int:
    """Bytes held while a chunk is normalised.

    They are its logits and their log-softmax, or the logits of two chunks; and its likeliest tokens, which are sorted
    among those found before.
    """
    largest = max(stop - start for start, stop, _ in head.chunks)
    return min(predictions, ROWS) * (2 * 4 * largest + SORTED_BYTES * top)


def project(head: OutputHead, hidden_K_D: Tensor, rows: Sequence[Row]) -> list[RowLogprobs]:
    """Log-probabilities that ``rows`` ask for, from the hidden states of their predictions, row after row."""
    found: list[RowLogprobs] = []
    start = 0
    for _, same in groupby(rows, lambda row: row.kind):
        group = list(same)
        stop = start + sum(len(row.targets) for row in group)
        found += _project_group(head, hidden_K_D[start:stop], group)
        start = stop
    return found


def _project_group(head: OutputHead, hidden_K_D: Tensor, rows: Sequence[Row]) -> list[RowLogprobs]:
    # Rows may ask about different numbers of targets: repeat the last to fill, and cut what was filled.
    width, top = max(row.targets.shape[1] for row in rows), max(row.top for row in rows)
    filled = [np.pad(row.targets, ((0, 0), (0, width - row.targets.shape[1])), "edge") for row in rows]
    targets = torch.from_numpy(np.concatenate(filled)).to(hidden_K_D.device)
    chunks: list[list[Any]] = []
    for chunk in zip(hidden_K_D.split(ROWS), targets.split(ROWS), strict=True):
        parts = _project_chunk(head, *chunk, top=top, below=rows[0].below, at=rows[0].at)
        chunks.append([part.cpu().numpy() for part in parts])  # off the device, which need not hold them all
    found, ids, values, rest = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    ends = np.cumsum([len(row.targets) for row in rows])
    places = [slice(end - len(row.targets), end) for row, end in zip(rows, ends, strict=True)]
    return [
        _narrowed(RowLogprobs(found[at, : row.targets.shape[1]], ids[at], values[at], rest[at]), row.top)
        for row, at in zip(rows, places, strict=True)
    ]


def _narrowed(row: RowLogprobs, top: int) -> RowLogprobs:
    """The row with its ``top`` likeliest tokens, the others in its rest."""
    if row.top_ids.shape[1] == top:
        return row
    rest = np.logaddexp.reduce(np.column_stack([row.rest, row.top_logprobs[:, top:]]), axis=1)
    return RowLogprobs(row.target_logprobs, row.top_ids[:, :top], row.top_logprobs[:, :top], rest)


def _project_chunk(
    head: OutputHead, hidden_K_D: Tensor, targets: Tensor, *, top: int, below: int | None, at: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-softmax over the whole vocabulary, read at ``targets``, at the ``top`` likeliest tokens, and at the rest.

    The rest is summed from the logits of all tokens that are not named. So nothing cancels where it is small.
    """
    rest = hidden_K_D.new_full((len(hidden_K_D), 1), -torch.inf, dtype=torch.float32)
    picked = hidden_K_D.new_zeros(targets.shape, dtype=torch.float32)
    best, best_ids = picked.new_empty((len(targets), 0)), targets.new_empty((len(targets), 0))
    for start, stop, weight_V_D in head.chunks:
        logits_K_V = head.logits(hidden_K_D, start, stop, weight_V_D)
        here = (targets >= start) & (targets < stop)
        place = (targets - start).clamp(0, stop - start - 1)
        picked = torch.where(here, logits_K_V.gather(-1, place), picked)
        if at:
            row, column = here[:, 1:].nonzero(as_tuple=True)
            logits_K_V[row, place[:, 1:][row, column]] = -torch.inf
        named = max(0, (stop if below is None else min(stop, below)) - start)
        if count := min(top, named):
            values, ids = logits_K_V[:, :named].topk(count, -1)
            logits_K_V.scatter_(-1, ids, -torch.inf)
            best, order = torch.cat([best, values], -1).sort(-1, descending=True)
            best_ids = torch.cat([best_ids, ids + start], -1).gather(-1, order)
        rest = torch.logaddexp(rest, _log_sum_exp(logits_K_V))
        if best.shape[-1] > top:
            rest = torch.logaddexp(rest, best[:, top:].logsumexp(-1, keepdim=True))
            best, best_ids = best[:, :top], best_ids[:, :top]
    log_total = torch.logaddexp(rest, (picked[:, 1:] if at else best).logsumexp(-1, keepdim=True))
    return picked - log_total, best_ids.int(), best - log_total, (rest - log_total)[:, 0]


def _log_sum_exp(logits_K_V: Tensor) -> Tensor:
    """``[K, 1]``. log_softmax is one fused pass, logsumexp four; at the largest logit it is small, and so exact."""
    largest, at = logits_K_V.max(-1, keepdim=True)
    total = largest - logits_K_V.log_softmax(-1).gather(-1, at)
    return torch.where(largest == -torch.inf, largest, total)  # all of them are named


# pyright: standard
