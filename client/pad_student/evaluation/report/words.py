"""The report's findings in sentences. Chart texts: ``charts.py``; fixed sentences: ``page.html``."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pad_student.evaluation.report.collect import BeforeAfter, Curve, Run

TREND_STEPS = 20  # with fewer steps, noise looks like a trend
TREND_ERRORS = 2.0  # standard errors that a change must exceed to be called one
COLLAPSED = 0.5  # of sets with one text alone, if it was less by COLLAPSE_GREW at the start
COLLAPSE_GREW = 0.2
GREW = 0.2  # relative change of length from which the report warns


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence, and whether it asks for attention."""

    text: str
    warns: bool = False


def findings(run: Run) -> list[Finding]:
    """All sentences about a run, its own warnings last."""
    collapse = _collapse(run)
    left_out = [*_refused(run), *_one_text(run)]
    trends = [] if collapse else _trends(run)
    found = [*_held_out(run), progress(run), *left_out, *collapse, *trends, *_lengths(run)]
    return [each for each in found if each] + [Finding(text, warns=True) for text in run.warnings]


def _held_out(run: Run) -> list[Finding]:
    """The change on held-out prompts: the one figure that tells whether the student became better."""
    line = run.evaluation or {}
    told = {"reward": "the teacher's reward of the student's answers", "grade": "the rule's grade of its answers"}
    return [_gain(line, name, what) for name, what in told.items() if f"eval_{name}_gain" in line]


def _gain(line: dict[str, Any], name: str, what: str) -> Finding:
    gain, low, high = (line[f"eval_{name}_gain{end}"] for end in ("", "_low", "_high"))
    went = "rose" if low > 0 else "fell" if high < 0 else "did not change beyond chance"
    interval = f"with a 95 % interval from {low:+.3f} to {high:+.3f}"
    wins = ""
    if name == "reward" and "eval_win_rate" in line:
        wins = f" The student wins {line['eval_win_rate']:.0%} of the prompts against its start."
    text = f"On held-out prompts {what} {went}: {gain:+.3f} at step {line['step']}, {interval}.{wins}"
    return Finding(text, warns=high < 0)


def progress(run: Run) -> Finding:
    """Steps done, of how many, in how many starts."""
    done = run.steps[-1] if run.steps else 0
    asked = f" of {run.max_steps}" if run.max_steps else ""
    starts = f", in {len(run.starts)} starts" if len(run.starts) > 1 else ""
    saved = "" if run.saved_step in (None, done) else f"; the newest checkpoint is of step {run.saved_step}"
    unfinished = run.max_steps is not None and done < run.max_steps
    return Finding(f"{done}{asked} steps are recorded{starts}{saved}.", warns=unfinished)


def _refused(run: Run) -> list[Finding]:
    """The share of sets that taught nothing because the teacher refused them."""
    curve = run.curves.get("share/refused")
    share = fmean(curve.known) if curve and curve.known else 0.0
    return (
        [Finding(f"The teacher refused {share:.1%} of the sets, which were left out.", warns=True)] if share else []
    )


def _one_text(run: Run) -> list[Finding]:
    """The share of sets that had nothing to teach, because the student repeated one text."""
    curve = run.curves.get("share/one_text")
    share = fmean(curve.known) if curve and curve.known and run.settings.get("one_text") == "skip" else 0.0
    return [Finding(f"{share:.1%} of the sets held one text, and were not scored or trained on.")] if share else []


def _collapse(run: Run) -> list[Finding]:
    """The verdict on a student that gives one answer whatever it samples: its loss and agreement look perfect."""
    curve = run.curves.get("share/one_text")
    if curve is None or curve.last < COLLAPSED or curve.first > curve.last - COLLAPSE_GREW:
        return []
    rate = run.settings.get("learning_rate")
    return [
        Finding(
            f"The student has collapsed: in {curve.last:.0%} of sets all its responses are the same text, in"
            f" {curve.first:.0%} at the start. Loss and agreement tell nothing then. Start again with a lower"
            f" learning_rate{f' than {rate:g}' if isinstance(rate, int | float) else ''}.",
            warns=True,
        )
    ]


def _trends(run: Run) -> list[Finding]:
    told = (
        ("agreement/pairwise", "Agreement with the teacher on pairs of responses", "{:.1%}"),
        ("loss", "The loss", "{:.3f}"),
        ("reward/teacher", "The teacher's reward of the responses trained on", "{:.3f}"),
    )
    return [_trend(run.curves[name], what, form) for name, what, form in told if name in run.curves]


def _trend(curve: Curve, what: str, form: str) -> Finding:
    steps = len(curve.known)
    if steps < TREND_STEPS:
        mean = form.format(fmean(curve.known))
        return Finding(f"{what}: {mean} on average. {steps} steps are too few to tell a trend.")
    went = "rose" if curve.last > curve.first else "fell"
    first, last = form.format(curve.first), form.format(curve.last)
    if first == last:
        return Finding(f"{what} stayed at {last}.")
    if abs(curve.last - curve.first) <= TREND_ERRORS * curve.standard_error:
        return Finding(f"{what} went from {first} to {last}, which is within its noise from step to step.")
    alike = " As responses become alike, there is less to agree on." if curve.name == "agreement/pairwise" else ""
    return Finding(f"{what} {went} from {first} to {last}.{alike if went == 'fell' else ''}")


def _lengths(run: Run) -> list[Finding]:
    """Sentences about length, always at least one: length bias is a known failure of preference training."""
    found: list[Finding] = []
    if curve := run.curves.get("length/tokens"):
        found.append(_length("Responses trained on", curve.first, curve.last, "tokens"))
    pairs = [(each.before, each.after) for each in run.answered]
    both = [(before, after) for before, after in pairs if before and after]
    if both:
        before, after = (fmean(mean_characters(line) for line in side) for side in zip(*both, strict=True))
        found.append(_length("Samples of the same prompts", before, after, "characters"))
    return found or [Finding("Whether responses grew longer is unknown: their length was not recorded.", warns=True)]


def mean_characters(line: dict[str, Any]) -> float:
    """Mean length of a line's samples."""
    return fmean(len(sample["text"]) for sample in line["samples"])


def _length(what: str, before: float, after: float, unit: str) -> Finding:
    if before == 0:
        return Finding(f"{what}: from no text to {after:.1f} {unit}.", warns=after > 0)
    change = after / before - 1
    sizes = f"from {before:.1f} to {after:.1f} {unit} ({change:+.0%})"
    if change > GREW:
        rest = "preference training tends to reward length, so check whether they became better or only longer."
        return Finding(f"{what} grew {sizes}: {rest}", warns=True)
    if change < -GREW:
        return Finding(f"{what} shrank {sizes}: check whether they are still complete.", warns=True)
    return Finding(f"{what} kept their length, {sizes}.")


def missing_samples(answered: BeforeAfter) -> str:
    """A sentence about the samples that a chosen prompt lacks; empty if it lacks none."""
    if not answered.before:
        return "Samples before training were not recorded."
    if not answered.after:
        return "Samples after training are not recorded: the run has not reached its last step."
    return ""
