"""The tokens that a model declares as ends of its output."""

import json
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig, GenerationConfig


def declared_ends(*configs: Any) -> frozenset[int]:
    """The ``eos_token_id`` of each config, which may be one id, several or none."""
    ends: set[int] = set()
    for config in configs:
        declared: Any = getattr(config, "eos_token_id", None)
        if isinstance(declared, list):
            ends.update(cast(list[int], declared))
        elif declared is not None:
            ends.add(declared)
    return frozenset(ends)


def saved_ends(name: str, revision: str | None = None) -> frozenset[int]:
    """As ``declared_ends``, of a model's directory or id on the Hub, without its weights.

    An adapter's directory holds no config: its base model declares the ends.
    """
    adapter = Path(name) / "adapter_config.json"
    if adapter.is_file() and not (Path(name) / "config.json").is_file():
        settings = json.loads(adapter.read_bytes())
        if base := settings.get("base_model_name_or_path"):
            return saved_ends(base, settings.get("revision"))
    generations: Any = GenerationConfig
    configs: Any = AutoConfig
    try:
        generation = generations.from_pretrained(name, revision=revision)
    except OSError:  # a model need not have one
        generation = None
    return declared_ends(generation, configs.from_pretrained(name, revision=revision).get_text_config())
