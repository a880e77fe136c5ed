"""Trials of a model on a small input: whether a faster way through it gives the states of the plain way.

Each ``why_not…`` says in a few words why the fast way cannot be taken, or None if it can.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# The largest relative difference of hidden states that rounding explains, by dtype.
ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}

LAYER_KINDS = {"full_attention", "sliding_attention"}


def trial_ids(vocabulary: int, count: int) -> list[int]:
    """Draw token ids for a trial, always the same."""
    ids = torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(0))
    return [int(each) for each in ids]


def why_not_kinds(config: Any) -> str | None:
    """Why a model's layers cannot run on packed rows, from the kinds that its text config names."""
    kinds = set(getattr(config, "layer_types", None) or LAYER_KINDS)
    return None if kinds <= LAYER_KINDS else f"it has layers of the kinds {', '.join(sorted(kinds))}"


def why_not_windows(config: Any, windows: Sequence[int | None]) -> str | None:
    """Why attention layers cannot be trusted, from the sliding windows that they were called with, in order."""
    layers, window = config.num_hidden_layers, getattr(config, "sliding_window", None)
    if len(windows) != layers:
        return f"{len(windows)} of its {layers} layers call their attention through transformers' interface"
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    slides = [kind == "sliding_attention" and bool(window) for kind in kinds]
    if any(slide and each != window for slide, each in zip(slides, windows, strict=True)):
        return "its layers do not say how far their windows reach"
    return None


def why_not_equal(found_K_D: Tensor, plain_K_D: Tensor) -> str | None:
    """Why states are not those of the plain way: they differ by more than rounding explains."""
    found_K_D, plain_K_D, most = found_K_D.float(), plain_K_D.float(), ROUNDING[plain_K_D.dtype]
    differ = float((found_K_D - plain_K_D).square().sum() / plain_K_D.square().sum()) ** 0.5
    return None if differ <= most else f"its states differ by {differ:.2g} of their size"
