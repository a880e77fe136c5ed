"""Digests of contents: ids and paths are names, and a name is no evidence of its content."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import orjson

from pad_student.errors import SamplingError
from pad_student.storage.terminal.status import STATUS
from pad_wire import Prompt, Response
from pad_wire.model_names import is_missing_directory

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "adapter_model*.bin")
TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
    "chat_template*",
    "*.model",
)
CONFIGURATION = ("config.json", "generation_config.json", "adapter_config.json")


class ResponseSet(Protocol):
    """A prompt and its responses, scored or not."""

    @property
    def prompt(self) -> Prompt:
        """Text or messages."""
        ...

    @property
    def responses(self) -> Iterable[Response]:
        """In order."""
        ...


def digest_of(value: Any) -> str:
    """32 hex digits that stand for a value in its JSON form."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def digest_of_set(each: ResponseSet) -> str:
    """Of the texts of a set: those of its prompt and its responses, and which of these are finished."""
    prompt = each.prompt if isinstance(each.prompt, str) else [message.model_dump() for message in each.prompt]
    return digest_of([prompt, [[response.text, response.finished] for response in each.responses]])


def digest_of_file(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def model_digests(model: str) -> dict[str, str]:
    """The digests that an output is bound to besides the model's name; of a model on the Hub its revision.

    Raises:
        SamplingError: there is no such directory.
    """
    if is_missing_directory(model):
        raise SamplingError(f"{model}: no such model directory")
    if not Path(model).is_dir():
        return {"weights_digest": _revision(model)}
    found = {"weights": WEIGHTS, "tokenizer": TOKENIZER, "configuration": CONFIGURATION}
    with STATUS.phase("reading the model's files"):  # gigabytes
        return {f"{what}_digest": _digest_of_files(Path(model), names) for what, names in found.items()}


def _digest_of_files(folder: Path, patterns: Iterable[str]) -> str:
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return digest_of([[path.name, digest_of_file(path)] for path in files] + _base_of_adapter(folder, patterns))


def _base_of_adapter(folder: Path, patterns: Iterable[str]) -> list[str]:
    try:
        base = Path(orjson.loads((folder / "adapter_config.json").read_bytes())["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [_digest_of_files(base, patterns)] if base.is_dir() and base.resolve() != folder.resolve() else [str(base)]


def _revision(model: str) -> str:
    import huggingface_hub

    hub: Any = huggingface_hub
    try:
        return Path(str(hub.hf_hub_download(model, "config.json"))).parent.name
    except Exception:  # noqa: BLE001 -- whatever is wrong, loading the model says it in words
        return "unknown"
