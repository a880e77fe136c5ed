"""A run as one HTML page that needs no other file and no network, and that is readable without JavaScript."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

import orjson
from jinja2 import Environment, StrictUndefined

import pad_pages as pages
from pad_student.evaluation.report.changes import Part, changes
from pad_student.evaluation.report.charts import charts, label, plots
from pad_student.evaluation.report.collect import Run
from pad_student.evaluation.report.preferences import preferences
from pad_student.evaluation.report.words import findings, missing_samples

_IMPORT = 'import { Chart } from "./curves.js";\n'  # in one file the module stands above instead
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}


def build(run: Run) -> str:
    """The page's HTML, to be written in UTF-8."""
    shown = charts(run)
    library, library_style, licence = map(pages.text_of, ("uPlot.iife.min.js", "uPlot.min.css", pages.LICENCE))
    style = pages.text_of("charts.css") + _text("page.css")
    script = pages.text_of("curves.js") + _text("page.js").replace(_IMPORT, "")
    betas = [run.settings.get(name) for name in ("beta_teacher", "beta_student")]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_visible, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {"number": _number, "label": label, "merged": merged, "duration": duration}
    filters["changes"] = _changes
    environment.filters.update(filters)
    return environment.from_string(_text("page.html")).render(
        run=run,
        policy=_policy([library, script], [library_style, style]),
        library=library,
        script=script,
        style=style,
        library_style=library_style,
        licence=licence,
        findings=findings(run),
        charts=[(chart, chart.curves(run)) for chart in shown],
        data=_embedded(plots(run, shown)),
        answered=[
            (each, missing_samples(each), preferences(each, *map(float, betas)) if None not in betas else None)  # type: ignore[arg-type]
            for each in run.answered
        ],
    )


def merged(line: dict[str, Any]) -> list[tuple[dict[str, Any], float | None, int]]:
    """Each text of a line's samples once, with the teacher's reward of the first copy and the number of copies."""
    rewards = line.get("samples_rewards_teacher") or [None] * len(line["samples"])
    found: dict[tuple[str, bool], tuple[dict[str, Any], float | None, int]] = {}
    for sample, reward in zip(line["samples"], rewards, strict=True):
        key = sample["text"], sample["finished"]
        first = found.get(key, (sample, reward, 0))
        found[key] = (*first[:2], first[2] + 1)
    return list(found.values())


def samples_of(line: dict[str, Any] | None) -> tuple[str, ...]:
    """The texts of a line's samples, each once."""
    return tuple(dict.fromkeys(sample["text"] for sample in line["samples"])) if line else ()


def _changes(text: str, other: dict[str, Any] | None) -> tuple[Part, ...]:
    return changes(text, samples_of(other))


def duration(seconds: float) -> str:
    """Seconds as 31 s, 5 min or 2 h 5 min."""
    if not seconds:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _text(name: str) -> str:
    return (files("pad_student.evaluation.report") / name).read_text(encoding="utf-8")


def _policy(scripts: list[str], styles: list[str]) -> str:
    """The page's content security policy: only its own scripts and styles, no fetching, no sending."""
    hashed = [
        " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in group)
        for group in (scripts, styles)
    ]
    return f"default-src 'none'; script-src {hashed[0]}; style-src {hashed[1]}; base-uri 'none'; form-action 'none'"


def _embedded(data: Any) -> str:
    """JSON that cannot end its script element: `<` occurs only in strings, and is escaped there."""
    return orjson.dumps(data).decode().replace("<", "\\u003c")


def _visible(value: Any) -> Any:
    """Text with control characters replaced by their pictures: HTML cannot contain most of them."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return value.replace("\r\n", "\n").translate(_CONTROLS)
    return value


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "not recorded"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"
