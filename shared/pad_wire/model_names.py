"""Names of models: a directory on this machine or an id on the Hugging Face Hub."""

from pathlib import Path


def is_missing_directory(name: str) -> bool:
    """Whether ``name`` can only mean a directory, and there is none: it must not be looked up on the Hub.

    A Hub id has one slash at most, and no directory of this machine before it. A GGUF file is no missing
    directory: loading it says how to convert it.
    """
    if Path(name).is_dir() or (name.endswith(".gguf") and Path(name).is_file()):
        return False
    return name.startswith(("/", ".")) or name.count("/") > 1 or ("/" in name and Path(name).parent.is_dir())
