"""The last hidden states at the places that predict response tokens, from rows padded or packed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pad_student.model import shared_attention
from pad_student.model.packing import Packed, Row, pack
from pad_torch.attention import attention_of
from pad_torch.modes import evaluating
from pad_torch.trials import trial_ids, why_not_equal, why_not_kinds, why_not_windows


def padded_states(causal_lm: Any, rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """States [K, D], row after row, and the token ids [K] that they predict; each row with a prompt of its own."""
    lengths = [len(row.prompt) + len(row.rest) for row in rows]
    ids_B_L = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    mask_B_L = torch.zeros_like(ids_B_L)
    for number, row in enumerate(rows):
        ids_B_L[number, : lengths[number]] = torch.tensor([*row.prompt, *row.rest])
        mask_B_L[number, : lengths[number]] = 1
    states_B_L_D = causal_lm.get_decoder()(
        input_ids=ids_B_L.to(device), attention_mask=mask_B_L.to(device), use_cache=False
    )[0]
    places = [number * max(lengths) + place - 1 for number, row in enumerate(rows) for place in row.predicted]
    targets = [target for row in rows for target in row.targets]
    predictor_K, target_K = (torch.tensor(values, device=device) for values in (places, targets))
    return states_B_L_D.flatten(0, 1)[predictor_K], target_K


def packed_states(causal_lm: Any, rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """The same, with a prompt that neighbours share computed once."""
    packed = pack(rows, device)
    return _run_packed(causal_lm, packed)[packed.predictor_K], packed.target_K


@torch.no_grad()
def why_not_packed(causal_lm: Any) -> str | None:
    """Why a transformers model cannot run on packed groups, or None; tried on two small ones."""
    config = causal_lm.config.get_text_config()
    if problem := why_not_kinds(config):
        return problem
    with evaluating(causal_lm):
        try:
            device, rows = next(causal_lm.parameters()).device, _trial_rows(config.vocab_size)
            packed = pack(rows, device)
            found_K_D = _run_packed(causal_lm, packed)[packed.predictor_K]
            plain_K_D = torch.cat([padded_states(causal_lm, [row], device)[0] for row in rows])
            return why_not_windows(config, packed.windows) or why_not_equal(found_K_D, plain_K_D)
        except Exception as error:  # noqa: BLE001 -- a model may refuse in any way; then it is trained the plain way
            return f"{type(error).__name__}: {error}"


def _run_packed(causal_lm: Any, packed: Packed) -> Tensor:
    """States [T, D] of all places of a packed sequence."""
    with attention_of(causal_lm, shared_attention.NAME):
        return causal_lm.get_decoder()(
            input_ids=packed.ids_T[None], position_ids=packed.positions_T[None], use_cache=False, packed=packed
        )[0][0]


def _trial_rows(vocabulary: int) -> list[Row]:
    """Two prompts with three and two responses, one of them a single token."""
    draw = trial_ids(vocabulary, 40)
    first, second, rest = tuple(draw[:13]), tuple(draw[13:16]), draw[16:]
    rows = []
    for prompt, size in [(first, 11), (first, 1), (first, 5), (second, 4), (second, 2)]:
        targets, rest = tuple(rest[:size]), rest[size:]
        rows.append(Row(prompt, targets[:-1], tuple(range(len(prompt), len(prompt) + size)), targets))
    return rows


# pyright: standard
