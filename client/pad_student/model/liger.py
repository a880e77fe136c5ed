"""liger-kernel's Triton kernels in a student's layers, if they keep its log-likelihoods."""

from typing import Any

import torch
from transformers.integrations.liger import apply_liger_kernel

from pad_student.errors import UnsupportedModel
from pad_student.model.checks import tolerance_of, trial_log_likelihoods


def apply_liger_kernels(model: Any, chosen: dict[str, bool], device: torch.device) -> None:
    """Move ``model`` to ``device`` and replace its layers' kernels, before anything relies on its layers.

    Args:
        model: a transformers causal LM, bare or wrapped by PEFT, not sharded.
        chosen: which kernels, as liger names them.
        device: a GPU; the kernels run on nothing else.

    Raises:
        UnsupportedModel: if token log-likelihoods change by more than rounding explains.

    """
    model.to(device)
    before_K = trial_log_likelihoods(model)
    apply_liger_kernel(model, chosen)
    after_K = trial_log_likelihoods(model)
    error = ((after_K - before_K).abs().max() / before_K.std().clamp_min(1e-12)).item()
    if not error <= (allowed := tolerance_of(model)):
        raise UnsupportedModel(
            f"liger's kernels change the student's token log-likelihoods by {error:.2g} of their spread (allowed"
            f" {allowed:g}): set use_liger_kernel to false, or the ones at fault in liger_kernel_config"
        )


# pyright: standard
