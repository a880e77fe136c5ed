"""An output directory belongs to the settings that began it: another run must not be taken for its continuation."""

import os
from pathlib import Path
from typing import Any

import orjson

from pad_student.errors import OtherRun


def beside(file: Path) -> Path:
    """Where the settings of an output that is one file are kept."""
    return file.with_name(f"{file.name}.settings.json")


def claim_file(file: Path, decisive: dict[str, Any]) -> None:
    """As ``claim``, for an output that is one file: as long as it holds nothing, other settings may begin it.

    Raises:
        OtherRun: naming the first setting that differs.
    """
    if not file.exists() or not file.stat().st_size:
        beside(file).unlink(missing_ok=True)
    claim(beside(file), decisive)


def claim(path: Path, decisive: dict[str, Any]) -> None:
    """Write down what decides an output's contents, or compare with what an earlier start wrote.

    Args:
        path: where the settings are kept, beside the output.
        decisive: settings by name, as JSON can hold them.

    Raises:
        OtherRun: naming the first setting that differs.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another process of the run may be reading it, and a kill may come at any time.
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        unfinished.write_bytes(orjson.dumps(decisive, option=orjson.OPT_INDENT_2))
        unfinished.replace(path)
        return
    before = orjson.loads(path.read_bytes())
    for name in decisive:
        if before.get(name) != decisive[name]:
            raise OtherRun(f"the output was begun with another {name}, see {path}; give that one, or another output")
