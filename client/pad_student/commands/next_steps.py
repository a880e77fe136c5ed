"""The lines after a run: how to try, compare, merge and serve the student."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from pad_student.commands.settings import DistillSettings, TrainingSettings


def next_steps(settings: TrainingSettings, folder: Path) -> Iterator[str]:
    """One command a line, with this run's own paths."""
    is_adapter = (folder / "adapter_config.json").exists()
    student = shlex.quote(str(folder))
    merged = shlex.quote(f"{folder}-merged")
    yield f"try it:     pad-student chat {student}"
    yield f"compare:    {_comparison(settings, student)}"
    if is_adapter:
        yield f"merge:      pad-student merge {student} --out {merged}"
    yield f"serve:      vllm serve {merged if is_adapter else student}"


def _comparison(settings: TrainingSettings, student: str) -> str:
    sampled = isinstance(settings, DistillSettings)
    teacher = settings.teacher[0] if sampled else "http://127.0.0.1:8010"
    words = ["pad-student", "eval", "win-rate"]
    words += ["--baseline", settings.model, "--teacher", teacher, "--prompts", "heldout.jsonl"]
    if sampled:
        words += ["--max-new-tokens", str(settings.max_response_tokens)]
    words += ["--out", f"{shlex.split(student)[0]}/win-rate"]
    return f"{shlex.join(words[:3])} {student} {shlex.join(words[3:])}"
