"""Trials of a student: its log-likelihoods on a small input, and whether they are those of its full logits."""

import torch
from torch import Tensor, nn

from pad_student.errors import UnsupportedModel
from pad_student.model.logprobs import Batch, collate, response_log_likelihoods
from pad_student.model.wrappers import text_config_of, unwrapped
from pad_torch.modes import evaluating
from pad_torch.trials import trial_ids


@torch.no_grad()
def trial_log_likelihoods(model: nn.Module, batch: Batch | None = None) -> Tensor:
    """Token log-likelihoods [K] in evaluation mode, by default of two short rows of random tokens.

    Args:
        model: as for ``response_log_likelihoods``.
        batch: on the model's device.
    """
    batch = batch or _random_batch(model)
    with evaluating(model):
        return torch.cat(response_log_likelihoods(model, *batch, per_token=True).token_log_likelihoods or ())


def tolerance_of(model: nn.Module) -> float:
    """The largest error of token log-likelihoods that rounding explains, relative to their spread."""
    return 0.1 if _computes_in_half(model, next(model.parameters()).device) else 1e-2


@torch.no_grad()
def check_against_full_logits(model: nn.Module, batch: Batch | None = None) -> None:
    """Compare with ``model(...).logits`` on a small input, before any training relies on the shortcut.

    This finds a transform of the logits that ``LogitTransform`` does not know: another cap, a second head.

    Args:
        model: as for ``response_log_likelihoods``, not yet wrapped for several devices.
        batch: on the model's device; by default two short rows of random tokens.

    Raises:
        UnsupportedModel: if token log-probabilities differ by more than rounding explains.

    """
    batch = batch or _random_batch(model)
    ours = trial_log_likelihoods(model, batch)
    with evaluating(model):
        logits_B_L_V = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    predicted_B_L = batch.response_mask[:, 1:]
    log_p_K_V = logits_B_L_V[:, :-1][predicted_B_L].to(ours.dtype).log_softmax(-1)
    theirs_K = log_p_K_V.gather(1, batch.input_ids[:, 1:][predicted_B_L].unsqueeze(1)).squeeze(1)
    # Relative to the spread of log-probabilities: near-uniform ones would hide a wrong scale from an absolute bound.
    error = ((ours - theirs_K).abs().max() / log_p_K_V.std(-1).max().clamp_min(1e-12)).item()
    if not error <= (tolerance := tolerance_of(model)):
        raise UnsupportedModel(
            f"token log-probabilities of {type(unwrapped(model)).__name__} from decoder body and output head differ"
            f" from those of its full logits by {error:.2g} of their spread (allowed {tolerance:g});"
            " it transforms its logits in a way that is not known here"
        )


def _computes_in_half(model: nn.Module, device: torch.device) -> bool:
    halves = (torch.bfloat16, torch.float16)
    return torch.is_autocast_enabled(device.type) or any(p.dtype in halves for p in model.parameters())


def _random_batch(model: nn.Module) -> Batch:
    vocab_size, device = text_config_of(model).vocab_size, next(model.parameters()).device
    ids = trial_ids(vocab_size, 24)
    rows = collate([ids[:3], ids[12:17]], [ids[3:12], ids[17:21]], pad_id=0)
    return Batch(*(tensor.to(device) for tensor in rows))
