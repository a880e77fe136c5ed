"""``pad-student eval compare``: two graded models, prompt by prompt."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from pad_student.commands.common import closing_line
from pad_student.commands.settings import CompareSettings
from pad_student.errors import EvaluationError
from pad_student.evaluation.comparison import Gain, Grades, McNemar, gain, mcnemar
from pad_wire.atomic import write_atomically

ALIKE = ("grader", "n", "temperature", "max_new_tokens")  # what two evaluations must share to be compared
GUARDS = ("finished", "mean_characters", "distinct_2", "repeated_4")


def run(settings: CompareSettings) -> None:
    """Print the gain of B over A with its interval, and write it to ``out`` if that is given.

    Raises:
        EvaluationError: a directory was not written by eval grade, or two of them cannot be compared.
    """
    of_a, of_b = _directories(settings.a), _directories(settings.b)
    _check_alike([*of_a, *of_b])
    a, b = [_grades(each) for each in of_a], [_grades(each) for each in of_b]
    found, test = gain(a, b), mcnemar(a, b)
    of = {"a": _guards(of_a), "b": _guards(of_b)}
    print("\n".join(_lines(found, test, of)))
    if settings.out:
        result = asdict(found) | {"mcnemar": asdict(test) if test else None, "guards": of}
        result["compared"] = {"a": [str(each) for each in of_a], "b": [str(each) for each in of_b]}
        write_atomically(settings.out, orjson.dumps(result, option=orjson.OPT_INDENT_2))
        closing_line(f"{settings.out}: written")


def _directories(given: str) -> list[Path]:
    return [Path(part.strip()) for part in given.split(",")]


def _grades(directory: Path) -> Grades:
    try:
        rows = [orjson.loads(line) for line in (directory / "grades.jsonl").read_bytes().splitlines()]
        return {row["id"]: row["grades"] for row in rows}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        raise EvaluationError(f"{directory} holds no grades.jsonl of eval grade") from None


def _guards(directories: Sequence[Path]) -> dict[str, float]:
    """Each guard, averaged over the seeds; those that an older evaluation lacks are left out."""
    results = [_record(each / "result.json") for each in directories]
    return {name: fmean(each[name] for each in results) for name in GUARDS if all(name in each for each in results)}


def _check_alike(directories: Sequence[Path]) -> None:
    """Refuse evaluations with other graders or ways of sampling: their grades say nothing about the models."""
    first = _record(directories[0] / "settings.json")
    for directory in directories[1:]:
        other = _record(directory / "settings.json")
        for name in ALIKE:
            if first.get(name) != other.get(name):
                raise EvaluationError(
                    f"{directories[0]} was made with {name} {first.get(name)!r}, {directory} with {other.get(name)!r}"
                )


def _record(path: Path) -> dict[str, Any]:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise EvaluationError(f"{path.parent} is no directory of eval grade: {path.name} is missing") from None


def _lines(found: Gain, test: McNemar | None, of: dict[str, dict[str, float]]) -> list[str]:
    over = f"{found.prompts} prompts" + (f" and {found.seeds} seeds" if found.seeds > 1 else "")
    lines = [
        f"A {found.a:.4f}, B {found.b:.4f}, gain {found.gain:+.4f}"
        f" (95 % interval {found.low:+.4f} to {found.high:+.4f}) over {over}",
        f"a comparison of this size finds a gain of {found.smallest:.4f} in four of five repetitions",
    ]
    if test:
        lines.append(
            f"only A passes {test.only_a}, only B passes {test.only_b}: McNemar's exact p {test.p_value:.3g}"
        )
    names = [name for name in GUARDS if name in of["a"] and name in of["b"]]
    lines += [f"{name.replace('_', ' ')}: A {of['a'][name]:.3f}, B {of['b'][name]:.3f}" for name in names]
    return lines
