"""The logit transform: scale and soft cap that an architecture applies between output head and softmax."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class LogitTransform(NamedTuple):
    """Multiply by ``scale``, then cap softly: ``softcap · tanh(logits / softcap)``.

    Cohere multiplies, Granite divides, Gemma-2 caps.
    """

    scale: float
    softcap: float | None

    @classmethod
    def of(cls, config: Any) -> "LogitTransform":
        """Read it from a transformers text config."""
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        """Return transformed logits in at least float32, differentiably."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scaled = logits if self.scale == 1 else logits * self.scale
        return self.softcap * torch.tanh(scaled / self.softcap) if self.softcap else scaled

    def apply_(self, logits: Tensor) -> Tensor:
        """Transform float32 logits in place, without a gradient."""
        if self.scale != 1:
            logits *= self.scale
        return logits.div_(self.softcap).tanh_().mul_(self.softcap) if self.softcap else logits

    def gradient_(self, gradient: Tensor, transformed: Tensor) -> Tensor:
        """Turn the gradient with respect to ``transformed`` into the one with respect to the logits, in place."""
        if self.softcap:
            gradient *= 1 - (transformed / self.softcap).square()
        return gradient if self.scale == 1 else gradient.mul_(self.scale)
