"""The fast forward pass: all rows in one sequence, each shared prefix computed once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pad_teacher.engines.embedded import padded_forward, tree_attention
from pad_teacher.engines.embedded.padded_forward import decoder_of
from pad_teacher.engines.embedded.prefix_tree import PrefixTree, pack
from pad_teacher.engines.embedded.rows import MIN_SHARED, Row
from pad_torch.attention import attention_of
from pad_torch.trials import trial_ids, why_not_equal, why_not_kinds, why_not_windows

SKIPPED = MIN_SHARED + 2  # positions at the start of each trial row whose predictions nobody wants


def hidden_states(decoder: Any, rows: Sequence[Row], _max_tokens: int = 0) -> Tensor:
    """Hidden states ``[K, D]`` of all positions whose predictions are wanted, row after row."""
    return _run(decoder, rows, pack([row.ids_L for row in rows]))


def why_not_tree(model: Any) -> str | None:
    """Set a model up for packed rows and return None; or leave it as it is and say why it cannot run on them.

    It is tried on a tree of three levels, whose states must be those of the plain way.
    """
    config, decoder, before = model.config.get_text_config(), decoder_of(model), model.config._attn_implementation
    if problem := why_not_kinds(config):
        return problem
    rows = _trial_rows(config.vocab_size)
    plain_K_D = padded_forward.hidden_states(decoder, rows, 10**6)
    tree = pack([row.ids_L for row in rows])
    try:
        model.set_attn_implementation(tree_attention.NAME)
        packed_K_D = _run(decoder, rows, tree)
        problem = why_not_windows(config, tree.windows) or why_not_equal(packed_K_D, plain_K_D)
    except Exception as error:  # noqa: BLE001 - a model may refuse in any way; then it runs the plain way
        problem = f"{type(error).__name__}: {error}"
    if problem:
        model.set_attn_implementation(before)
    return problem


@contextmanager
def plain_attention(model: Any, name: str) -> Iterator[None]:
    """Within the block, a model that is set up for packed rows has its own attention, ``name``, again."""
    if model.config._attn_implementation != tree_attention.NAME:
        yield
        return
    with attention_of(model, name):
        yield


def _run(decoder: Any, rows: Sequence[Row], tree: PrefixTree) -> Tensor:
    ids_T, positions_T = (torch.from_numpy(part).to(decoder.device) for part in (tree.ids_T, tree.positions_T))
    wanted_K = np.concatenate([place[row.start :] for row, place in zip(rows, tree.places, strict=True)])
    hidden_T_D = decoder(
        input_ids=ids_T[None], position_ids=positions_T[None], use_cache=False, tree=tree
    ).last_hidden_state[0]
    return hidden_T_D[torch.from_numpy(wanted_K).to(decoder.device)]


def _trial_rows(vocabulary: int) -> list[Row]:
    length = SKIPPED + 1
    draw = np.array(trial_ids(vocabulary, 5 * length)).reshape(5, length)
    paths = [(0, 1), (0, 2, 3), (0, 2, 4), (4,)]
    ids = [np.concatenate([draw[i] for i in path]) for path in paths]
    return [Row(row, SKIPPED, row[SKIPPED:, None], len(row)) for row in ids]


# pyright: standard
