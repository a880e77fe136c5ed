"""The fast way through a model: all rows in one sequence, what they share at their start computed once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pad_teacher.engines.embedded import last_layer, padded_forward, tree_attention
from pad_teacher.engines.embedded.padded_forward import decoder_of
from pad_teacher.engines.embedded.prefix_tree import PrefixTree, pack
from pad_teacher.engines.embedded.rows import MIN_SHARED, Row

# Largest relative difference of hidden states from the plain way, by dtype, that is rounding and no mistake.
ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}

SKIPPED = MIN_SHARED + 2  # positions at the start of each trial row whose predictions nobody wants


def hidden_states(decoder: Any, rows: Sequence[Row], _max_tokens: int = 0) -> Tensor:
    """Hidden states ``[K, D]`` of all positions whose predictions are wanted, row after row."""
    return _run(decoder, rows, pack([row.ids_L for row in rows]))


def why_not(model: Any) -> str | None:
    """Why this model cannot be run so; None where it can, and is then set up for it.

    Whether it can is tried, on a tree of three levels: its states must be those of the plain way.
    """
    config, decoder, before = model.config.get_text_config(), decoder_of(model), model.config._attn_implementation
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"layers of the kinds {', '.join(sorted(kinds))}"
    rows = _trial_rows(config.vocab_size)
    plain_K_D = padded_forward.hidden_states(decoder, rows, 10**6)
    tree = pack([row.ids_L for row in rows])
    try:
        model.set_attn_implementation(tree_attention.NAME)
        packed_K_D = _run(decoder, rows, tree)
        problem = _problem(config, tree, packed_K_D.float(), plain_K_D.float(), ROUNDING[model.dtype])
    except Exception as error:  # noqa: BLE001 - a model may refuse in any way; then it runs the plain way
        problem = f"{type(error).__name__}: {error}"
    if problem:
        model.set_attn_implementation(before)
    return problem


@contextmanager
def left(model: Any, attention: str) -> Iterator[None]:
    """Within this, a model that runs so has its plain ``attention`` again."""
    if model.config._attn_implementation != tree_attention.NAME:
        yield
        return
    model.set_attn_implementation(attention)
    try:
        yield
    finally:
        model.set_attn_implementation(tree_attention.NAME)


def _run(decoder: Any, rows: Sequence[Row], tree: PrefixTree) -> Tensor:
    ids_T, positions_T = (torch.from_numpy(part).to(decoder.device) for part in (tree.ids_T, tree.positions_T))
    wanted = np.concatenate([place[row.start :] for row, place in zip(rows, tree.places, strict=True)])
    distinct_W = torch.from_numpy(np.unique(wanted)).to(decoder.device)
    with last_layer.only_at(decoder, distinct_W, len(ids_T)):
        hidden_T_D = decoder(
            input_ids=ids_T[None], position_ids=positions_T[None], use_cache=False, tree=tree
        ).last_hidden_state[0]
    return hidden_T_D[torch.from_numpy(wanted).to(decoder.device)]


def _trial_rows(vocabulary: int) -> list[Row]:
    draw = np.random.default_rng(0).integers(0, vocabulary, (5, SKIPPED + 1))
    paths = [(0, 1), (0, 2, 3), (0, 2, 4), (4,)]
    ids = [np.concatenate([draw[i] for i in path]) for path in paths]
    return [Row(row, SKIPPED, row[SKIPPED:, None], len(row)) for row in ids]


def _problem(config: Any, tree: PrefixTree, packed_K_D: Tensor, plain_K_D: Tensor, most: float) -> str | None:
    layers = config.num_hidden_layers
    if len(tree.windows) != layers:
        return f"{len(tree.windows)} of {layers} layers call their attention through transformers' interface"
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    window = getattr(config, "sliding_window", None)
    if window and any(
        kind == "sliding_attention" and told != window for kind, told in zip(kinds, tree.windows, strict=True)
    ):
        return "layers do not say how far their windows reach"
    differ = float((packed_K_D - plain_K_D).norm() / plain_K_D.norm())
    return None if differ <= most else f"states differ by {differ:.2g} of their size"
