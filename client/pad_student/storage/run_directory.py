"""An output directory: the settings it is bound to, and the checkpoints that a rerun continues from."""

import json
from pathlib import Path
from typing import Any

import orjson

from pad_student.errors import OtherRun
from pad_student.storage.jsonl import check_regular
from pad_wire.atomic import write_atomically


def bind_file_to_settings(file: Path, decisive: dict[str, Any]) -> None:
    """As ``bind_to_settings``, for an output that is one file; an empty file may be bound anew.

    Raises:
        JsonLinesError: the output is no regular file.
        OtherRun: naming the first setting that differs, or a file that no command of ours began.
    """
    check_file_settings(file, decisive)
    record = settings_of(file)
    if not file.exists() or not file.stat().st_size:
        record.unlink(missing_ok=True)
    bind_to_settings(record, decisive)


def check_file_settings(file: Path, decisive: dict[str, Any]) -> None:
    """As ``bind_file_to_settings``, and bind nothing."""
    check_regular(file)
    if file.exists() and file.stat().st_size:
        record = settings_of(file)
        refuse_foreign(file, record)
        check_settings(record, decisive)


def settings_of(file: Path) -> Path:
    """The file that keeps an output's settings, next to it."""
    return file.with_name(f"{file.name}.settings.json")


def refuse_foreign(file: Path, record: Path) -> None:
    """Refuse to write to a file that has content, and no record of its settings.

    Raises:
        OtherRun: naming the file.
    """
    if file.exists() and file.stat().st_size and not record.exists():
        raise OtherRun(
            f"{file} is there, and no {record.name} says how it was made; give another output, or move it away"
        )


def bind_to_settings(record: Path, decisive: dict[str, Any]) -> None:
    """Bind an output to the settings that decide its content, or compare these with an earlier start's.

    Otherwise a rerun with other settings would continue the output and mix two runs in it. A setting that only one of
    the two starts has differs too.

    Args:
        record: the file that keeps the settings.
        decisive: settings by name, with values that JSON can hold; ``NAME_digest`` stands for a content.

    Raises:
        OtherRun: naming the first setting that differs.
    """
    check_settings(record, decisive)
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(record, orjson.dumps(decisive, option=orjson.OPT_INDENT_2))


def check_settings(record: Path, decisive: dict[str, Any]) -> None:
    """Compare with an earlier start's settings, and bind nothing.

    Raises:
        OtherRun: naming the first setting that differs.
    """
    if not record.exists():
        return
    before = orjson.loads(record.read_bytes())
    now = orjson.loads(orjson.dumps(decisive))
    for name in [*now, *(each for each in before if each not in now)]:
        if before.get(name) != now.get(name):
            raise OtherRun(f"the output was begun {_difference(name, before, now)}, see {record}")


def _difference(name: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    if name not in now:
        return f"with {name} = {before[name]}, which is not given now; give it, or another output"
    if name not in before:
        return f"without {name}; leave it out, or give another output"
    if name.endswith("_digest"):
        return f"with another {name.removesuffix('_digest').replace('_', ' ')}; bring it back, or give another output"
    return f"with another {name}; give that one, or another output"


def newest_whole(output_dir: Path) -> Path | None:
    """The newest ``checkpoint-N`` with a readable trainer state, the file that is written last; None without one."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if _state(path) is not None:
            return path
    return None


def best_checkpoint(checkpoint: Path) -> Path | None:
    """The best checkpoint so far, as judged by the run that wrote ``checkpoint``; None if there is none."""
    best = (_state(checkpoint) or {}).get("best_model_checkpoint")
    found = checkpoint.parent / Path(best).name if best else None
    return found if found and found.exists() else None


def best_step(checkpoint: Path) -> int | None:
    """The step of the best checkpoint so far; None if none was judged."""
    return (_state(checkpoint) or {}).get("best_global_step")


def steps_asked(checkpoint: Path) -> int:
    """The ``max_steps`` of the run that wrote ``checkpoint``."""
    return (_state(checkpoint) or {}).get("max_steps", 0)


def is_finished(checkpoint: Path, max_steps: int, epochs: float) -> bool:
    """Whether ``checkpoint`` is the end of a run of ``max_steps`` steps, or of ``epochs`` if ``max_steps`` is -1."""
    state = _state(checkpoint) or {}
    return state["global_step"] >= max_steps if max_steps > 0 else state["epoch"] >= epochs


def _state(checkpoint: Path) -> Any:
    try:
        return json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return None  # a kill or a full disk interrupted its writing


# pyright: standard
