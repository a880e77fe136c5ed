"""Reads a run from its output directory; missing records stay None or empty, and are never filled in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from pad_student.errors import ReportError
from pad_student.preference.diagnostics import SignalMonitor
from pad_student.storage.run_directory import best_step, newest_whole

EDGE = 10  # "first" and "last" are means over one part in EDGE of the steps
COST_KEYS = ("seconds/", "teacher_seconds/", "teacher_tokens")


@dataclass(frozen=True, slots=True)
class Curve:
    """One recorded figure over the steps; None for steps without a finite value."""

    name: str
    values: list[float | None]

    @property
    def known(self) -> list[float]:
        """The values that are not None."""
        return [value for value in self.values if value is not None]

    @property
    def first(self) -> float:
        """Mean of the first tenth of the known values."""
        return fmean(self.known[: self._edge])

    @property
    def last(self) -> float:
        """Mean of the last tenth of the known values."""
        return fmean(self.known[-self._edge :])

    @property
    def standard_error(self) -> float:
        """Of ``last - first``, from the differences of successive values, which a slow trend hardly moves."""
        known = self.known
        differences = [(after - before) ** 2 for before, after in pairwise(known)]
        return sqrt(fmean(differences) / self._edge) if differences else 0.0

    @property
    def _edge(self) -> int:
        return max(1, len(self.known) // EDGE)


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """A chosen prompt with its lines of ``shown.jsonl`` from before and after training, or None for a missing one."""

    prompt_id: str
    prompt: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def is_unchanged(self) -> bool:
        """Whether the samples after training are those from before."""
        texts = [
            [sample["text"] for sample in line["samples"]] if line else None for line in (self.before, self.after)
        ]
        return texts[0] == texts[1]


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning that a run gave: the step, its kind among those of ``SignalMonitor``, and its text."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run as recorded on disk; ``costs`` are sums over all steps, with those that were repeated after a kill.

    ``spent`` has the hours and the teacher tokens up to each of ``steps``, as far as they were recorded.
    """

    name: str
    steps: list[int]
    curves: dict[str, Curve]
    costs: dict[str, float]
    starts: list[dict[str, Any]]
    settings: dict[str, Any]
    teacher: dict[str, str] | None
    answered: list[BeforeAfter]
    saved_step: int | None
    evaluation: dict[str, Any] | None = None
    is_adapter: bool = False
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    warned: list[Warned] = field(default_factory=list[Warned])
    spent: dict[str, list[float | None]] = field(default_factory=dict[str, list[float | None]])

    @property
    def warnings(self) -> list[str]:
        """The texts of the warnings."""
        return [each.text for each in self.warned]

    @property
    def seconds(self) -> dict[str, float]:
        """The wall seconds among ``costs``: the student's phases, then the teacher's."""
        names = sorted(name for name in self.costs if name.startswith(("seconds/", "teacher_seconds/")))
        return {name: self.costs[name] for name in names}

    @property
    def wall_seconds(self) -> float:
        """Wall seconds of the whole run, the sum of the student's phases."""
        return sum(value for name, value in self.costs.items() if name.startswith("seconds/"))

    @property
    def started(self) -> str | None:
        """The day and the minute of the first start, in UTC."""
        return self.starts[0]["started"][:16].replace("T", " ") if self.starts else None

    @property
    def command(self) -> str | None:
        """The command of the last start, without its key."""
        return self.starts[-1].get("command") if self.starts else None

    @property
    def max_steps(self) -> int | None:
        """The ``max_steps`` of the last start."""
        return self.starts[-1]["max_steps"] if self.starts else None

    @property
    def model(self) -> str | None:
        """The directory or hub id that the student was loaded from."""
        return self.settings.get("model") or (self.starts[-1]["model"] if self.starts else None) or None


def collect(folder: Path) -> Run:
    """Read a run of ``pad-student distill``, ``pad-student train`` or ``PADTrainer``.

    Raises:
        ReportError: the folder holds no run, or a line that is not JSON; a torn last line is ignored.
    """
    metrics, costs, starts, shown, evaluations = (
        _lines(folder / f"{name}.jsonl") for name in ("metrics", "costs", "starts", "shown", "evaluations")
    )
    if not (metrics or starts):
        raise ReportError(f"{folder} holds no run: give the output directory of pad-student distill or train")
    metrics = list({line["step"]: line for line in metrics}.values())
    metrics.sort(key=lambda line: line["step"])
    steps = [line["step"] for line in metrics]
    rows = _with_costs(_with_costs(metrics, costs), evaluations)
    names = dict.fromkeys(name for row in rows for name in row if name not in ("step", "epoch"))
    curves = {name: Curve(name, [_number(row.get(name)) for row in rows]) for name in names}
    settings = _settings(folder, starts)
    return Run(
        name=folder.resolve().name,
        steps=steps,
        curves={name: curve for name, curve in curves.items() if curve.known},
        costs=_sums(costs or metrics),
        starts=starts,
        settings=settings,
        teacher=_teacher(folder, starts),
        answered=sorted(_before_after(shown), key=lambda each: each.is_unchanged),
        evaluation=_evaluation(folder, evaluations),
        saved_step=_saved_step(folder),
        is_adapter=(folder / "adapter_config.json").exists(),
        evaluations=_evaluations(folder),
        warned=_warned(metrics, settings),
        spent=_spent(costs or metrics, steps),
    )


def _evaluations(folder: Path) -> dict[str, dict[str, Any]]:
    """What ``pad-student eval`` found, by the name of its directory in the run's."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/result.json")):
        try:
            result = orjson.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(result, dict):
            found[path.parent.name] = result
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    raw = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(raw, start=1):
        try:
            if line.strip():
                found.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            if number < len(raw):  # a kill tore the text after the last newline
                raise ReportError(f"{path}, line {number}: not JSON; mend or move the file") from None
    return found


def _with_costs(metrics: list[dict[str, Any]], costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each step's metrics with its costs; a repeated step counts with its last."""
    by_step = {line["step"]: line for line in costs}
    return [by_step.get(line["step"], {}) | line for line in metrics]


def _sums(lines: list[dict[str, Any]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith(COST_KEYS) and (number := _number(value)) is not None:
                sums[name] = sums.get(name, 0.0) + number
    return sums


def _spent(lines: list[dict[str, Any]], steps: list[int]) -> dict[str, list[float | None]]:
    """Hours and teacher tokens until each step was done first, with steps that were repeated before."""
    found: dict[str, dict[int, float]] = {}
    sums: dict[str, float] = {}
    for line in lines:
        for name, value in line.items():
            axis = "hours" if name.startswith("seconds/") else name if name == "teacher_tokens" else None
            if axis and (number := _number(value)) is not None:
                sums[axis] = sums.get(axis, 0.0) + (number / 3600 if axis == "hours" else number)
        for axis, value in sums.items():
            found.setdefault(axis, {}).setdefault(line["step"], value)
    return {axis: [values.get(step) for step in steps] for axis, values in found.items()}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _settings(folder: Path, starts: list[dict[str, Any]]) -> dict[str, Any]:
    """The command's settings, and the trainer's for names that the command does not have."""
    path = folder / "settings.json"
    told: Mapping[str, Any] = {}
    if path.exists():
        try:
            told = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            raise ReportError(f"{path}: not JSON; mend or move the file") from None
    every = {**(starts[-1]["settings"] if starts else {}), **told}
    return {name: value for name, value in sorted(every.items()) if value is not None}


def _teacher(folder: Path, starts: list[dict[str, Any]]) -> dict[str, str] | None:
    for path in sorted(folder.glob("rounds/*/scored*.jsonl")):
        for line in _first_line(path):
            return line["teacher"]
    return next((start["teacher"] for start in starts if start["teacher"]), None)


def _first_line(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        line = file.readline()
    if line.endswith(b"\n"):
        yield orjson.loads(line)


def _before_after(lines: list[dict[str, Any]]) -> list[BeforeAfter]:
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_prompt.setdefault(line["prompt_id"], []).append(line)
    return [
        BeforeAfter(
            prompt_id,
            of_prompt[0]["prompt"],
            next((line for line in of_prompt if line["step"] == 0), None),
            max((line for line in of_prompt if line["step"] > 0), key=lambda line: line["step"], default=None),
        )
        for prompt_id, of_prompt in by_prompt.items()
    ]


def _evaluation(folder: Path, evaluations: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The evaluation of the student that the run ended with: the best one if the best is kept, else the last one."""
    if not evaluations:
        return None
    by_step = {line["step"]: line for line in evaluations}
    checkpoint = newest_whole(folder)
    best = best_step(checkpoint) if checkpoint else None
    return by_step.get(best or -1, by_step[max(by_step)])


def _saved_step(folder: Path) -> int | None:
    checkpoint = newest_whole(folder)
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else None


def _warned(metrics: list[dict[str, Any]], settings: Mapping[str, Any]) -> list[Warned]:
    """The warnings that the run printed: the same diagnostics over the same figures."""
    watch = SignalMonitor(str(settings.get("loss", "ppd")), str(settings.get("method", "pad")))
    warned: list[Warned] = []
    for line in metrics:
        finite = {name: value for name, value in line.items() if _number(value) is not None}
        gradient = float("nan") if "grad_norm" in line and line["grad_norm"] is None else line.get("grad_norm")
        found = watch.judge(finite, finite.get("loss/preference"), gradient)
        warned += [Warned(line["step"], kind, text) for kind, text in found.items()]
    return warned


# pyright: standard
