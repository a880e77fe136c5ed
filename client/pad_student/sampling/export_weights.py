"""Writes a student's weights as a server reads them: one plain model, with any adapter merged in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pad_student.errors import SamplingError
from pad_student.storage.modes import readable_as_umask_says

UNMERGED = (
    "a sampling server wants one plain model, and this adapter does not merge into the student's own weights: leave"
    " sampler_url out, or train an adapter of linear layers alone"
)


def save_whole_weights(model: Any, folder: Path) -> None:
    """Write ``model`` as safetensors; the model in memory stays the same, bit for bit.

    Raises:
        SamplingError: the adapter has parts that do not merge into the model's weights.
    """
    if not hasattr(model, "get_base_model"):
        model.save_pretrained(folder)
        readable_as_umask_says(folder)
        return
    if not hasattr(model, "merge_adapter"):
        raise SamplingError(UNMERGED)
    plain = model.get_base_model()
    with _merged(model):
        weights = {
            name.replace(".base_layer.", "."): tensor
            for name, tensor in plain.state_dict().items()
            if not any(part.startswith(model.base_model.prefix) for part in name.split("."))
        }
        if weights.keys() != _names(plain.config):
            raise SamplingError(UNMERGED)
        plain.save_pretrained(folder, state_dict=weights)
    readable_as_umask_says(folder)


@contextmanager
def _merged(model: Any) -> Iterator[None]:
    """Merge the adapter, then restore the weights from copies: subtracting it would not be exact."""
    kept = {
        name: weight.detach().to("cpu", copy=True)
        for name, weight in model.named_parameters()
        if ".base_layer." in name
    }
    try:
        model.merge_adapter()
        yield
    finally:
        model.unmerge_adapter()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in kept:
                    weight.copy_(kept[name])


def _names(config: Any) -> set[str]:
    with torch.device("meta"):
        return set(AutoModelForCausalLM.from_config(config).state_dict())


# pyright: standard
