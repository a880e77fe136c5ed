"""The plain forward pass: rows share nothing and are padded on the right, which a causal model does not read."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pad_teacher.engines.embedded.rows import Row


def decoder_of(model: Any) -> Any:
    """The layers of a causal language model, without its projection to the vocabulary."""
    decoder = model.get_decoder()
    return model.model if decoder is model else decoder


def hidden_states(decoder: Any, rows: Sequence[Row], max_tokens: int) -> Tensor:
    """Hidden states ``[K, D]`` of all positions whose predictions are wanted, row after row."""
    states: dict[int, Tensor] = {}
    for group in _groups(rows, max_tokens):
        longest = max(len(rows[i].ids_L) for i in group)
        ids_B_L = torch.zeros(len(group), longest, dtype=torch.long)
        for place, i in enumerate(group):
            ids_B_L[place, : len(rows[i].ids_L)] = torch.from_numpy(rows[i].ids_L)
        hidden_B_L_D = decoder(input_ids=ids_B_L.to(decoder.device), use_cache=False).last_hidden_state
        for place, i in enumerate(group):
            states[i] = hidden_B_L_D[place, rows[i].start : len(rows[i].ids_L)].clone()
    return torch.cat([states[i] for i in range(len(rows))])


def most_tokens(rows: Sequence[Row], max_tokens: int) -> int:
    """Tokens of the largest forward pass of ``hidden_states``, padding included."""
    return max(len(group) * len(rows[group[0]].ids_L) for group in _groups(rows, max_tokens))


def _groups(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Indices of rows that run together, longest first, so that there is little padding."""
    group: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: -len(rows[i].ids_L)):
        if group and (len(group) + 1) * len(rows[group[0]].ids_L) > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


# pyright: standard
