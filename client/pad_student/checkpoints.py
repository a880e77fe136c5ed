"""Which checkpoint a run can continue from: the newest that was written to its end."""

import json
from pathlib import Path


def newest_whole(output_dir: Path) -> Path | None:
    """The newest ``checkpoint-N`` whose last file, the trainer's state, is there and whole."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            continue  # the run ended, or the disk was full, while it was written
        return path
    return None
