"""A model's files on this machine: whether they fit its config, and one hash over all that decides its scores."""

import hashlib
import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from pad_torch.findings import NotAsSaved

log = structlog.get_logger()

WHOLE = "model.safetensors"
INDEX = f"{WHOLE}.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
CONSOLIDATED = "consolidated"
# transformers may not know a model that vLLM has.
CANNOT_BUILD = (ValueError, ImportError, RuntimeError, LookupError, AttributeError, TypeError)
_NOT_COMPARED = "the weights were not compared with the config: vLLM alone checks them"
FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.bin", "*.gguf")


def directory_of(model: str, revision: str | None) -> Path:
    """The model's directory: itself, or the snapshot of a Hub id, which is downloaded if it is not there yet.

    Raises:
        OSError: if there is no such model.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))


def check(directory: Path, overrides: Any, allow: Collection[str]) -> None:
    """Compare the checkpoint with its config before vLLM loads it.

    vLLM 0.32 leaves most weights that it does not find as the memory was, and reads every ``*.safetensors`` of a
    directory without an index.

    Args:
        directory: the model's.
        overrides: of its config, as ``hf_overrides`` of vLLM; only those of a mapping are known.
        allow: findings that are no reason to refuse; see ``pad_torch.findings``.

    Raises:
        NotAsSaved: if weights are missing, left over or of another shape, or vLLM would load other files as well.
        OSError: if a file of the weights is missing.
    """
    from pad_torch.checkpoint import check_weights

    if not any((directory / name).exists() for name in (WHOLE, INDEX, *PICKLED)):
        log.warning(_NOT_COMPARED, reason="transformers reads none of its files")
        return
    files = {path.name for path in directory.glob("*.safetensors") if not path.name.startswith(CONSOLIDATED)}
    if WHOLE in files and len(files) > 1 and not (directory / INDEX).exists():
        more = ", ".join(sorted(files - {WHOLE}))
        raise NotAsSaved(f"{directory}: vLLM would load {more} over {WHOLE}; move what is no part of the model away")
    try:
        check_weights(str(directory), overrides=overrides if isinstance(overrides, dict) else None, allow=allow)
    except (OSError, NotAsSaved):
        raise
    except CANNOT_BUILD as error:
        log.warning(_NOT_COMPARED, reason=" ".join(f"{type(error).__name__}: {error}".split())[:300])


def load_format(directory: Path) -> str:
    """The format for the files that ``check`` compares: ``auto`` would take Mistral's own copy of the weights."""
    return "safetensors" if (directory / INDEX).exists() and list(directory.glob(f"{CONSOLIDATED}*")) else "auto"


def digest(directory: Path, settings: Mapping[str, Any]) -> str:
    """SHA-256 over config, weight files and ``settings`` such as the dtype; independent of the directory's place.

    Raises:
        FileNotFoundError: if the directory has no config or no weights.
    """
    weights = sorted(directory.glob("*.safetensors"))
    weights = weights or sorted(path for kind in ("*.bin", "*.gguf") for path in directory.glob(kind))
    if not weights:
        raise FileNotFoundError(f"{directory}: no weights (*.safetensors)")
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    own = {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}
    whole = hashlib.sha256(json.dumps([own, settings], sort_keys=True, default=str).encode())
    with ThreadPoolExecutor(4) as pool:
        for path, hashed in zip(weights, pool.map(_sha256, weights), strict=True):
            whole.update(f"\n{path.name} {hashed}".encode())
    return whole.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# pyright: standard
