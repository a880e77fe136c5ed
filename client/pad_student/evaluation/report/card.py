"""The model card of a trained student, for readers of the Hub or of the output directory."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from pad_student.evaluation.report.collect import COST_KEYS, Run
from pad_student.evaluation.report.words import findings, progress

IN_CACHE = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")
TAGS = ["pad-service", "distillation"]


def model_card(run: Run, **metadata: Any) -> ModelCard:
    """A card of a run.

    Args:
        run: from ``collect``.
        metadata: further fields of ``ModelCardData``, such as ``license`` or ``language``; ``tags`` are added.
    """
    tags, method = metadata.pop("tags", None) or [], run.settings.get("method", "pad")
    own = [*TAGS, "preference-aligned-distillation" if method == "pad" else method]
    # The Hub resolves this field of the metadata, so it must not be a directory on a disk.
    hub_id = _hub_id(run.model)
    data = ModelCardData(
        **{
            "base_model": hub_id,
            "library_name": "peft" if run.is_adapter else "transformers",
            "model_name": run.name,
            "pipeline_tag": "text-generation",
            **{name: value for name, value in metadata.items() if value is not None},
        },
        tags=[*own, *([tags] if isinstance(tags, str) else tags)],
    )
    environment = Environment(  # noqa: S701 -- Markdown; the filter escapes the cells of tables
        undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["cell"] = _cell
    template = environment.from_string(
        (files("pad_student.evaluation.report") / "card.md").read_text(encoding="utf-8")
    )
    return ModelCard(template.render(card_data=data.to_yaml(), name=data.model_name, method=method, **_facts(run)))


def _hub_id(model: str | None) -> str | None:
    """A model's id on the Hub, also of a copy in the Hub's cache; None for another directory."""
    if not model:
        return None
    if cached := IN_CACHE.search(model):
        return f"{cached[1]}/{cached[2]}"
    return model if not Path(model).exists() and model.count("/") <= 1 else None


def _evaluations(run: Run) -> Iterator[dict[str, Any]]:
    for name, result in run.evaluations.items():
        for measure in ("gold_score", "win_rate"):
            if isinstance(value := result.get(measure), int | float):
                error = result.get("standard_error")
                shown = f"{error:.4f}" if isinstance(error, int | float) else "not known"
                words = measure.replace("_", " ")
                yield {"name": name, "measure": words, "value": f"{value:.4f}", "error": shown, "n": result.get("n")}


def _facts(run: Run) -> dict[str, Any]:
    start = run.starts[-1] if run.starts else {}
    source = run.settings.get("prompts") or run.settings.get("scored")
    amount = f"{start['rows']} {start['rows_are']}" if start else ""
    seconds = {name.removeprefix("seconds/"): v for name, v in run.costs.items() if name.startswith("seconds/")}
    spent = ", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in seconds.items())
    return {
        "base_model": run.model,
        "where": run.name,
        "is_adapter": run.is_adapter,
        "evaluations": list(_evaluations(run)),
        "teacher": run.teacher,
        "data": ", ".join(filter(None, (source, amount))) or "not recorded",
        "progress": progress(run).text,
        "teacher_tokens": f"{run.costs['teacher_tokens']:,.0f}" if "teacher_tokens" in run.costs else "not recorded",
        "seconds": spent or "not recorded",
        "findings": findings(run)[1:],
        "curves": [curve for name, curve in run.curves.items() if not name.startswith(COST_KEYS)],
        "settings": run.settings,
        "versions": start.get("versions", {}),
    }


def _cell(value: Any) -> str:
    """Text as code in a table's cell: a name or a path may contain Markdown, which must not take effect."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


# pyright: standard
