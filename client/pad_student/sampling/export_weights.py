"""A student's weights on disk as a server reads them: one plain model, an adapter merged into its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pad_student.errors import SamplingError

UNMERGED = (
    "a sampling server wants one plain model, and this adapter does not merge into the student's own weights: leave"
    " sampler_url out, or train an adapter of linear layers alone"
)


def save_whole_weights(model: Any, folder: Path) -> None:
    """Write ``model`` as safetensors; its own weights stay as they are, bit for bit.

    Raises:
        SamplingError: where an adapter holds more than what merges into the model's weights.
    """
    if not hasattr(model, "get_base_model"):
        model.save_pretrained(folder)
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


@contextmanager
def _merged(model: Any) -> Iterator[None]:
    """The adapter added to the weights; taken off by copies of them, since a difference would not be exact."""
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
