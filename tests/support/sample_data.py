"""Rows of prompts, and functions that write them to files."""

import json
from pathlib import Path
from typing import Any

ROWS = [{"id": f"p{k}", "prompt": f"say {k}", "source": "made up"} for k in range(4)]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def by_library(kind: str, name: str) -> Any:
    def write(folder: Path) -> Path:
        from datasets import Dataset

        getattr(Dataset.from_list(ROWS), f"to_{kind}")(str(folder / name))
        return folder / name

    return write
