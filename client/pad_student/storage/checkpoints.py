"""Which checkpoint a run can continue from, and whether there is anything left to do."""

import json
from pathlib import Path
from typing import Any


def newest_whole(output_dir: Path) -> Path | None:
    """The newest ``checkpoint-N`` whose last file, the trainer's state, is there and whole."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if _state(path) is not None:
            return path
    return None


def steps_asked(checkpoint: Path) -> int:
    """After how many steps the run that wrote ``checkpoint`` was to end."""
    return (_state(checkpoint) or {}).get("max_steps", 0)


def is_finished(checkpoint: Path, max_steps: int, epochs: float) -> bool:
    """Whether the run that wrote ``checkpoint`` was done; ``max_steps`` is -1 where ``epochs`` decide."""
    state = _state(checkpoint) or {}
    return state["global_step"] >= max_steps if max_steps > 0 else state["epoch"] >= epochs


def _state(checkpoint: Path) -> Any:
    try:
        return json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return None  # the run ended, or the disk was full, while it was written
