"""Names of models: a directory on this machine or an id on the Hugging Face Hub."""

import json
import os
from operator import index
from pathlib import Path
from typing import Any, BinaryIO, cast

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer one
# Whatever json says of bytes, and of values that are no objects, lists and numbers.
NO_MODEL = (ValueError, LookupError, AttributeError, TypeError, RecursionError)


def is_directory(name: str) -> bool:
    """Whether ``name`` is a directory; one that no file can have, as it is too long, is none."""
    return os.path.isdir(name)  # noqa: PTH112 -- Path.is_dir raises an OSError for such a name


def is_missing_directory(name: str) -> bool:
    """Whether ``name`` can only mean a directory, and there is none: it must not be looked up on the Hub.

    A Hub id has one slash at most, and no directory of this machine before it. A GGUF file is no missing
    directory: loading it says how to convert it.
    """
    if is_directory(name) or (name.endswith(".gguf") and os.path.isfile(name)):  # noqa: PTH113
        return False
    return (
        name.startswith(("/", ".")) or name.count("/") > 1 or ("/" in name and is_directory(str(Path(name).parent)))
    )


def why_unreadable(folder: Path) -> str | None:
    """The reason that a model's directory cannot be loaded, as far as names, rights and sizes of files tell.

    It takes milliseconds and needs no torch. A file of weights is whole if it is as long as its header says.

    Returns:
        One line that names the file and the remedy; None if nothing is wrong.
    """
    try:
        config = folder / (ADAPTER if (folder / ADAPTER).exists() else "config.json")
        if next(folder.glob("*.gguf"), None) and not config.exists():
            return None  # loading it says how to convert it
        if not config.exists():
            return f"{folder} holds no model: it has no config.json; give the directory that save_pretrained wrote"
        _object(config)
        listed = folder / INDEX
        named = _object(listed)["weight_map"].values() if listed.exists() else ()
        parts = {folder / name for name in named}
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}; change its rights, or copy the model"
    except NO_MODEL:
        return f"{folder} has a config or an index that is no JSON object; copy the model again"
    files = sorted(parts or {path for kind in WEIGHTS for path in folder.glob(kind)})
    if not files:
        return f"{folder} holds no weights (*.safetensors); copy the model again"
    return next(filter(None, map(_why_not_whole, files)), None)


def _why_not_whole(path: Path) -> str | None:
    """The reason that a file of weights cannot be read to its end; None if it can, or if it is not safetensors."""
    try:
        with path.open("rb") as file:
            end = _end_of_tensors(file) if path.suffix == ".safetensors" else 0
    except FileNotFoundError:
        return f"{path.parent} lacks {path.name}, which its index names; copy the model again"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; change its rights, or copy the model again"
    except NO_MODEL:
        return f"{path} is no whole file of weights; copy the model again"
    if path.stat().st_size < end:
        return f"{path} is shorter than its header says; copy the model again"
    return None


def _end_of_tensors(file: BinaryIO) -> int:
    """The place in a safetensors file at which the last tensor of its header ends; an error of ``NO_MODEL``."""
    length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError
    header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + length + max(map(index, ends), default=0)


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an error of ``NO_MODEL`` if it holds something else."""
    value: Any = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise TypeError
    return cast(dict[str, Any], value)
