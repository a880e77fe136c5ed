"""A model's files on this machine, and one hash over everything that decides its scores."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
