"""Grades and wins of responses, and the standard errors of their means."""

import importlib
import importlib.util
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pad_student.errors import EvaluationError
from pad_wire import Response

Grader = Callable[[str, str], float]

TIE = 1e-6  # around one half: rounding in float32 of a tie that is averaged over both orders


class Estimate(NamedTuple):
    """A mean over ``n`` independent values, and its standard error; None for a single value."""

    mean: float
    standard_error: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error.

    Raises:
        EvaluationError: there are no values.
    """
    if not values:
        raise EvaluationError("there is nothing to evaluate")
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), error, len(values))


def load_grader(name: str) -> Grader:
    """Find ``path/to/file.py:function`` or ``module:function``.

    Raises:
        EvaluationError: there is no such function.
    """
    place, _, function = name.rpartition(":")
    if not place or not function:
        raise EvaluationError(f"the grader {name!r} must be given as path/to/file.py:function or module:function")
    try:
        module = _file_module(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        return getattr(module, function)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise EvaluationError(f"there is no grader {name!r}: {error}") from error


def grades(grader: Grader, set_id: str, prompt: str, responses: Iterable[Response]) -> list[float]:
    """Grade each response.

    Raises:
        EvaluationError: a grade is not a finite number.
    """
    values = [grader(prompt, response.text) for response in responses]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise EvaluationError(f"the grader's grades for {set_id!r} are not all finite numbers: {values}")
    return [float(value) for value in values]


def win(preference: float) -> float:
    """1 for a probability above one half, 0 below, 0.5 for a tie."""
    return 0.5 if abs(preference - 0.5) <= TIE else float(preference > 0.5)


def _file_module(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# pyright: standard
