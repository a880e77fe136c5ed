"""A run as JSON for the page of runs: one line for the list, and all of it for the curves."""

import time
from pathlib import Path
from typing import Any

from pad_student.evaluation.report.changes import changes
from pad_student.evaluation.report.charts import MOST_POINTS, Chart, charts, downsample, label, marked_curve
from pad_student.evaluation.report.collect import BeforeAfter, Run
from pad_student.evaluation.report.words import findings, missing_samples

AXES = ("hours", "teacher_tokens")


def summary(run: Run) -> dict[str, Any]:
    """The line of a run in the list."""
    return {
        "steps": run.steps[-1] if run.steps else 0,
        "max_steps": run.max_steps,
        "started": run.started,
        "model": run.model,
        "seconds": run.wall_seconds or None,
        "teacher_tokens": run.costs.get("teacher_tokens"),
        "warnings": len(run.warned),
    }


def document(run: Run) -> dict[str, Any]:
    """Everything that the page shows of a run that is chosen; of many steps, means over ``every`` in a row."""
    every = -(-len(run.steps) // MOST_POINTS) or 1
    return {
        "every": every,
        "x": {
            "step": [float(step) for step in run.steps[::every]],
            **{axis: run.spent[axis][::every] for axis in AXES if axis in run.spent},
        },
        "figures": _figures(run, every),
        "warned": [_warned(run, k) for k in range(len(run.warned))],
        "findings": [{"text": each.text, "warns": each.warns} for each in findings(run)],
        "settings": _compared_settings(run),
        "answered": [_answered(each) for each in run.answered],
    }


def last_change(folder: Path, names: tuple[str, ...]) -> float | None:
    """Seconds since the newest of the files was written; None if there is none."""
    times = [path.stat().st_mtime for name in names if (path := folder / name).is_file()]
    return max(0.0, time.time() - max(times)) if times else None


def _figures(run: Run, every: int) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for place, chart in enumerate(charts(run)):
        for name, curve in run.curves.items():
            if name.startswith(chart.holds) and name not in found:
                found[name] = {
                    "name": name,
                    "title": _title(chart, name),
                    "unit": chart.unit,
                    "meaning": chart.meaning,
                    "place": place,
                    "values": downsample(curve.values, every),
                }
    return list(found.values())


def _title(chart: Chart, name: str) -> str:
    return chart.title if (name,) == chart.holds else f"{chart.title}: {label(name)}"


def _warned(run: Run, index: int) -> dict[str, Any]:
    """A warning, with the curve that shows it and with its place on each axis."""
    warned = run.warned[index]
    at = run.steps.index(warned.step)
    return {
        "text": warned.text,
        "curve": marked_curve(run, warned),
        "x": {
            "step": float(warned.step),
            **{axis: run.spent[axis][at] for axis in AXES if axis in run.spent},
        },
    }


def _compared_settings(run: Run) -> dict[str, str]:
    """Settings, teacher and versions as texts, by name."""
    start = run.starts[-1] if run.starts else {}
    told = {name: str(value) for name, value in run.settings.items()}
    told |= {f"teacher's {name}": str(value) for name, value in (run.teacher or {}).items()}
    return told | {f"version of {name}": str(value) for name, value in start.get("versions", {}).items()}


def _answered(each: BeforeAfter) -> dict[str, Any]:
    texts = [
        tuple(dict.fromkeys(sample["text"] for sample in line["samples"])) if line else ()
        for line in (each.before, each.after)
    ]
    return {
        "id": each.prompt_id,
        "prompt": prompt_text(each.prompt),
        "lacks": missing_samples(each),
        "before": [{"parts": changes(text, texts[1])} for text in texts[0]],
        "after": [{"parts": changes(text, texts[0])} for text in texts[1]],
    }


def prompt_text(prompt: Any) -> str:
    """A prompt in one text; turns have a line each, with their role."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
