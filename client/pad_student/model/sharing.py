"""Whether a student can be trained on packed groups: tried, on two small ones, before any training relies on it."""

from typing import Any

import torch

from pad_student.model.forward import padded_states, run_packed
from pad_student.model.packing import Row, pack

# Largest relative difference of hidden states from the plain way, by dtype, that is rounding and no mistake.
ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}
LAYER_KINDS = {"full_attention", "sliding_attention"}


@torch.no_grad()
def why_not_shared(causal_lm: Any) -> str | None:
    """Why this transformers model cannot take packed groups; None where it can."""
    config, modes = causal_lm.config.get_text_config(), {part: part.training for part in causal_lm.modules()}
    kinds = set(getattr(config, "layer_types", None) or LAYER_KINDS)
    if not kinds <= LAYER_KINDS:
        return f"it has layers of the kinds {', '.join(sorted(kinds))}"
    causal_lm.eval()
    try:
        return _problem(causal_lm, config)
    except Exception as error:  # noqa: BLE001 -- a model may refuse in any way; then it is trained the plain way
        return f"{type(error).__name__}: {error}"
    finally:
        for part, mode in modes.items():
            part.training = mode


def _problem(causal_lm: Any, config: Any) -> str | None:
    device, rows = next(causal_lm.parameters()).device, _trial_rows(config.vocab_size)
    packed = pack(rows, device)
    found_K_H = run_packed(causal_lm, packed)[packed.predictor_K]
    layers, window = config.num_hidden_layers, getattr(config, "sliding_window", None)
    if len(packed.windows) != layers:
        return f"{len(packed.windows)} of its {layers} layers call their attention through transformers' interface"
    layer_kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    slides = [kind == "sliding_attention" and window is not None for kind in layer_kinds]
    if any(slide and told != window for slide, told in zip(slides, packed.windows, strict=True)):
        return "its layers do not say how far their windows reach"
    plain_K_H = torch.cat([padded_states(causal_lm, [row], device)[0] for row in rows])
    differ = float((found_K_H - plain_K_H).float().norm() / plain_K_H.float().norm())
    return None if differ <= ROUNDING[found_K_H.dtype] else f"its states differ by {differ:.2g} of their size"


def _trial_rows(vocabulary: int) -> list[Row]:
    draw = torch.randint(vocabulary, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    first, second, rest = tuple(draw[:13]), tuple(draw[13:16]), draw[16:]
    sizes = [(first, 11), (first, 1), (first, 5), (second, 4), (second, 2)]
    rows = []
    for prompt, size in sizes:
        targets, rest = tuple(rest[:size]), rest[size:]
        rows.append(Row(prompt, targets[:-1], tuple(range(len(prompt), len(prompt) + size)), targets))
    return rows
