"""The last hidden states at the places that predict response tokens, from rows padded or packed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pad_student.model.packing import Packed, Row, pack
from pad_student.model.shared_attention import shared_attention


def padded_states(causal_lm: Any, rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """States [K, H], row after row, and the token ids [K] that they predict; each row with a prompt of its own."""
    lengths = [len(row.prompt) + len(row.rest) for row in rows]
    ids_B_L = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    mask_B_L = torch.zeros_like(ids_B_L)
    for number, row in enumerate(rows):
        ids_B_L[number, : lengths[number]] = torch.tensor([*row.prompt, *row.rest])
        mask_B_L[number, : lengths[number]] = 1
    states_B_L_H = causal_lm.get_decoder()(
        input_ids=ids_B_L.to(device), attention_mask=mask_B_L.to(device), use_cache=False
    )[0]
    places = [number * max(lengths) + place - 1 for number, row in enumerate(rows) for place in row.predicted]
    targets = [target for row in rows for target in row.targets]
    predictor_K, target_K = (torch.tensor(values, device=device) for values in (places, targets))
    return states_B_L_H.flatten(0, 1)[predictor_K], target_K


def packed_states(causal_lm: Any, rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """The same, with a prompt that neighbours share computed once."""
    packed = pack(rows, device)
    return run_packed(causal_lm, packed)[packed.predictor_K], packed.target_K


def run_packed(causal_lm: Any, packed: Packed) -> Tensor:
    """States [T, H] of all places of a packed sequence."""
    with shared_attention(causal_lm):
        decoder = causal_lm.get_decoder()
        return decoder(
            input_ids=packed.ids_T[None], position_ids=packed.positions_T[None], use_cache=False, packed=packed
        )[0][0]
