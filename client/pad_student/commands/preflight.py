"""What can be checked within a second, before torch is imported and before anything is written."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pad_student.commands.settings import SampleSettings, Settings, TrainingSettings
from pad_student.data.readers import is_hub_name
from pad_student.errors import ConfigError, JsonLinesError, PromptsError, SamplingError
from pad_student.evaluation.grading import load_grader
from pad_torch.hub_names import why_unreachable
from pad_wire.model_names import is_directory, is_missing_directory, why_unreadable

FILES = ("scored", "questions", "chat_template")
ROWS = ("prompts", "eval_prompts", "sets")  # files, directories or datasets on the Hub
OUTPUTS = ("out", "output_dir")


def check_first(settings: Settings) -> None:
    """Check the paths, the model's files and the names on the Hub that a command was given.

    Raises:
        SamplingError: a model that is not there, or whose files cannot be read.
        PromptsError: prompts or response sets that are not there.
        JsonLinesError: a file that is not there.
        EvaluationError: a grader that is not there.
        ModuleNotFoundError: a package that the command needs.
        ConfigError: an output that cannot be written.
    """
    _check_installed(settings)
    given: dict[str, Any] = {name: getattr(settings, name, None) for name in type(settings).model_fields}
    for name in FILES:
        if (path := given.get(name)) is not None:
            _check_file(Path(path))
    for name in ROWS:
        if (rows := given.get(name)) is not None:
            _check_rows(Path(rows))
    for name in ("grader", "eval_grader"):
        if (grader := given.get(name)) is not None:
            load_grader(grader)
    for name in ("model", "baseline"):
        if (model := given.get(name)) is not None:
            check_model(str(model))
    for name in OUTPUTS:
        if (output := given.get(name)) is not None:
            _check_output(Path(output), name)


def _check_installed(settings: Settings) -> None:
    """Find the packages that a command needs whatever it is given, and import none."""
    needed = ("httpx", "stamina") if hasattr(settings, "teacher") else ()
    needed += ("torch", "transformers") if isinstance(settings, TrainingSettings | SampleSettings) else ()
    for package in needed:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def check_model(name: str) -> None:
    """Check a model's directory or its name on the Hub; a file of response sets is checked as a file.

    Raises:
        SamplingError: naming what is wrong.
    """
    if name.endswith(".jsonl"):
        _check_file(Path(name))
    elif is_missing_directory(name):
        raise SamplingError(f"{name}: no such model directory")
    elif not name.endswith(".gguf"):
        problem = why_unreadable(Path(name)) if is_directory(name) else why_unreachable(name)
        if problem:
            raise SamplingError(problem)


def _check_rows(source: Path) -> None:
    if source.exists():
        _check_readable(source)
    elif not is_hub_name(source):
        raise PromptsError(f"{source}: no such file or directory")
    elif problem := why_unreachable(str(source), "dataset"):
        raise PromptsError(problem)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise JsonLinesError(f"{path}: no such file")
    if path.is_dir():
        raise JsonLinesError(f"{path} is a directory; give a file")
    _check_readable(path)


def _check_readable(path: Path) -> None:
    if not os.access(path, os.R_OK):
        raise JsonLinesError(f"{path} cannot be read: change its rights")


def _check_output(output: Path, name: str) -> None:
    there = next(each for each in (output, *output.absolute().parents) if each.exists())
    flag = f"--{name.replace('_', '-')}"
    if there != output and not there.is_dir():
        raise ConfigError(f"{flag} {output}: {there} is a file, not a directory")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{flag} {output}: {there} cannot be written; change its rights, or give another output")


# pyright: standard
