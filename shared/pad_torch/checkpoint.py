"""Loads a causal language model, and makes sure that its weights are the checkpoint's, all of them."""

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from pad_torch.findings import NotAsSaved, refuse_unless_allowed

ADAPTER = "adapter_config.json"
# Files of weights are read by safetensors, or by torch as a pickle of which nothing is run.
UNREADABLE = (SafetensorError, RuntimeError, KeyError, EOFError, UnpicklingError)
NAMED = 3  # weights that a message names; the rest are counted
# Buffers that a model computes from its config, which older checkpoints hold too.
HARMLESS = re.compile(r"rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$|\.position_ids$")


def load_model(name: str, *, revision: str | None = None, dtype: Any = "auto", allow: Collection[str] = ()) -> Any:
    """Load a directory or a Hub id; an adapter's directory gives its base with the adapter merged in.

    Args:
        name: of the directory, or on the Hub.
        revision: on the Hub.
        dtype: of the weights; ``auto`` is the one they were saved in.
        allow: findings that are no reason to refuse; see ``findings``.

    Raises:
        OSError: if there is no such model, or a file of it cannot be read.
        NotAsSaved: if a weight of the model is not in the checkpoint, one of the checkpoint is not in the model,
            or one has another shape.
        ValueError: for a GGUF file, or an adapter that is more than changed weights.
    """
    refuse_gguf(name)
    if (Path(name) / ADAPTER).is_file():
        return _with_adapter(Path(name), dtype, allow)
    models: Any = AutoModelForCausalLM
    try:
        model, info = models.from_pretrained(
            name, revision=revision, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except UNREADABLE as error:
        raise OSError(
            f"{name}: a file of the weights cannot be read ({_reason(error)}); copy the model again"
        ) from error
    _check(name, info, allow)
    return model


def check_weights(name: str, *, overrides: Mapping[str, Any] | None = None, allow: Collection[str] = ()) -> None:
    """Compare the names and shapes of a directory's weights with its config's model, without reading the weights.

    A quantised checkpoint is compared module by module: it has other weights in place of each one.

    Args:
        name: of the directory.
        overrides: of its config.
        allow: findings that are no reason to refuse; see ``findings``.

    Raises:
        NotAsSaved: as for ``load_model``, or if a file cannot be read.
        OSError: if a file is missing.
        Exception: whatever transformers raises for a model that it cannot build.
    """
    models: Any = AutoModelForCausalLM
    config: Any = AutoConfig.from_pretrained(name, **(overrides or {}))
    quantised = getattr(config, "quantization_config", None) is not None
    if quantised:
        del config.quantization_config
    try:
        _, info = models.from_pretrained(
            name,
            config=config,
            dtype="auto",
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (SafetensorError, EOFError, UnpicklingError) as error:
        message = f"{name}: a file of the weights cannot be read ({_reason(error)}); copy the model again"
        raise NotAsSaved(message) from error
    _check(name, _by_module(info) if quantised else info, allow)


def _by_module(info: dict[str, Any]) -> dict[str, Any]:
    """The findings at modules that have no weights at all, or none of the model's."""
    homes = {key: key.rpartition(".")[0] + "." for key in info["missing_keys"]}
    missing = [
        key for key, home in homes.items() if not any(each.startswith(home) for each in info["unexpected_keys"])
    ]
    known = tuple(homes.values())
    unexpected = [each for each in info["unexpected_keys"] if not each.startswith(known)]
    return {"missing_keys": missing, "unexpected_keys": unexpected, "mismatched_keys": []}


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError | EOFError):  # torch would advise to run what is in the file
        return "a *.bin file that is no pickle of tensors alone"
    return " ".join(str(error).split())[:300]


def refuse_gguf(name: str) -> None:
    """Refuse a GGUF file or a directory of nothing else, with the way to convert it.

    Raises:
        ValueError: if it is one.
    """
    path = Path(name)
    found = path if path.suffix == ".gguf" else None
    if path.is_dir() and not (path / "config.json").exists() and not (path / ADAPTER).exists():
        found = next(iter(sorted(path.glob("*.gguf"))), None)
    if found is not None:
        raise ValueError(
            f"{found} is a GGUF file, which is not read here: convert it once with transformers' from_pretrained("
            f"{str(found.parent)!r}, gguf_file={found.name!r}) and save_pretrained, model and tokenizer alike"
        )


def _check(name: str, info: dict[str, Any], allow: Collection[str]) -> None:
    """Refuse weights that are missing, of another shape, or left over."""
    if missing := _beyond_harmless(info["missing_keys"]):
        raise NotAsSaved(
            f"{name} lacks {_named(missing)} of its model, which would be random numbers; copy the checkpoint again,"
            " or correct tie_word_embeddings in its config.json"
        )
    if mismatched := [str(each[0]) for each in info["mismatched_keys"]]:
        raise NotAsSaved(
            f"{name} has {_named(mismatched)} in another shape than its config.json says; correct the config"
        )
    if unused := _beyond_harmless(info["unexpected_keys"]):
        sentence = f"{name} holds {_named(unused)}, which the model that its config.json names does not use"
        refuse_unless_allowed("unused-weights", sentence, allow)


def _beyond_harmless(names: Collection[str]) -> list[str]:
    return sorted(each for each in names if not HARMLESS.search(each))


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"the weight{'s' if len(names) > 1 else ''} {', '.join(names[:NAMED])}{more}"


def _with_adapter(folder: Path, dtype: Any, allow: Collection[str]) -> Any:
    """The base model with the adapter merged in, as peft itself loads it."""
    from peft import PeftConfig, PeftModel

    settings = orjson.loads((folder / ADAPTER).read_bytes())
    base_name = settings.get("base_model_name_or_path")
    if not base_name:
        raise ValueError(f"{folder / ADAPTER} names no base model; set base_model_name_or_path there")
    try:
        base = load_model(base_name, revision=settings.get("revision"), dtype=dtype, allow=allow)
    except OSError as error:
        raise OSError(f"the base model {base_name} of the adapter {folder}: {error}") from error
    configs: Any = PeftConfig
    if configs.from_pretrained(str(folder)).is_prompt_learning:
        raise ValueError(f"the adapter {folder} adds positions of its own and cannot be merged; use one of weights")
    models: Any = PeftModel
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of tied weights, which _untie takes care of
        try:
            adapted = models.from_pretrained(base, str(folder))
        except UNREADABLE as error:
            message = f"the adapter {folder} does not fit its base model {base_name} ({_reason(error)})"
            raise NotAsSaved(message) from error
        _untie(adapted)
        merged = adapted.merge_and_unload()
    # An adapter that is trained on top names this as its base: the first one's own base would lack its change.
    merged.name_or_path = merged.config._name_or_path = str(folder)
    return merged


def _untie(adapted: Any) -> None:
    """Give the output head weights of its own, if they are the embeddings' and the adapter changes one of the two.

    Merged into the shared tensor, the change would take effect on both sides.
    """
    model: Any = adapted.base_model.model
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not (hasattr(head, "base_layer") or hasattr(embeddings, "base_layer")):
        return
    own, shared = getattr(head, "base_layer", head), getattr(embeddings, "base_layer", embeddings)
    if own.weight is shared.weight:
        own.weight = nn.Parameter(own.weight.detach().clone(), requires_grad=False)
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False


@torch.no_grad()
def own_memory(model: nn.Module) -> None:
    """Copy weights on the CPU out of the mapping of their file, so that a change of the file cannot reach them."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


# pyright: standard
