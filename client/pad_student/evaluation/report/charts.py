"""Which curves stand together, and what is said of them, also where there are none."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pad_student.evaluation.report.collect import Curve, Run

MOST_POINTS = 2000  # a chart is no wider in pixels
MOST_RANKS = 8  # curves of one family that an eye can tell apart
LABELS = {"agreement/top1": "same best", "agreement/pairwise": "pairs"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A title, its unit, what it means, the curves it holds by name or by prefix, why it may be missing.

    ``most`` is how many curves it draws at most.
    """

    title: str
    unit: str
    meaning: str
    holds: tuple[str, ...]
    missing: str
    most: int | None = None

    def curves(self, run: Run) -> list[Curve]:
        """Those of its curves that the run recorded; one that repeats another is left out.

        Of more than ``most``, the first, the last and some at equal distances between them are kept.
        """
        found: list[Curve] = []
        for curve in run.curves.values():
            if curve.name.startswith(self.holds) and all(curve.values != other.values for other in found):
                found.append(curve)
        if self.most is None or len(found) <= self.most:
            return found
        return [found[k * (len(found) - 1) // (self.most - 1)] for k in range(self.most)]


CHARTS = (
    Chart("Loss", "nats", "What is minimised.", ("loss",), "The loss was not recorded."),
    Chart(
        "Agreement with the teacher",
        "share",
        "Pairs that both sides order alike, and prompts where both like the same response best. Half is chance for"
        " pairs; Kendall's tau is twice that share, less one.",
        ("agreement/",),
        "Agreement was not recorded.",
    ),
    Chart(
        "Rewards",
        "nats",
        "Mean reward of the responses trained on. What the teacher's choice adds is relative to the others of a set.",
        ("reward/",),
        "Rewards were not recorded: the run was made by an earlier version.",
    ),
    Chart(
        "Response length",
        "tokens",
        "Mean of the responses trained on, in the student's tokens. Preference training tends to reward length.",
        ("length/tokens",),
        "Response length was not recorded: the run was made by an earlier version.",
    ),
    Chart(
        "Label mass",
        "probability",
        "What the teacher put on option letters at all. Where it is small, selection probabilities are noise.",
        ("label_mass",),
        "No label mass: the teacher was asked no multiple-choice questions (alpha 0), or its scores lack them.",
    ),
    Chart(
        "Log-likelihood by the teacher's rank",
        "nats a token",
        "Rank 1 is the teacher's best response. All falling together is likelihood displacement. Of many ranks some"
        " are drawn; the table of figures has all.",
        ("mean_log_likelihood/",),
        "Log-likelihoods by rank were not recorded.",
        MOST_RANKS,
    ),
    Chart(
        "Entropy of the rankings",
        "of the greatest",
        "0 is certain of one ranking, 1 knows nothing.",
        ("entropy/",),
        "Entropies were not recorded.",
    ),
    Chart("Gradient norm", "", "Before clipping.", ("grad_norm",), "The gradient norm was not recorded."),
    Chart("Learning rate", "", "As scheduled.", ("learning_rate",), "The learning rate was not recorded."),
    Chart(
        "Seconds by phase",
        "s",
        "Wall seconds of each step, by what they went into.",
        ("seconds/",),
        "Seconds by phase were not recorded: the run was made by an earlier version.",
    ),
    Chart(
        "The teacher's seconds",
        "s",
        "Wall seconds of each step in which sets were with the teacher, and in which it had none from this run.",
        ("teacher_seconds/",),
        "The teacher's seconds were not recorded: the scores came from a file, or an earlier version made the run.",
    ),
    Chart(
        "Teacher tokens",
        "tokens",
        "Tokens that the teacher scored for each step.",
        ("teacher_tokens",),
        "No teacher tokens: the scores came from a file, or were not counted.",
    ),
)


def charts(run: Run) -> list[Chart]:
    """All charts of a run: the known ones, and one for every other family of figures that it recorded."""
    known = tuple(prefix for chart in CHARTS for prefix in chart.holds)
    others = sorted(name for name in run.curves if not name.startswith((*known, "length/")))
    return [*CHARTS, *(_other(family) for family, _ in groupby(others, key=lambda name: name.partition("/")[0]))]


def plots(run: Run, shown: Iterable[Chart]) -> list[dict[str, Any]]:
    """What the page's script draws, one entry for each chart that has curves."""
    steps, every = run.steps, -(-len(run.steps) // MOST_POINTS) or 1
    return [
        {
            "title": chart.title,
            "steps": steps[::every],
            "series": [{"name": label(each.name), "values": _thinned(each.values, every)} for each in curves],
        }
        for chart in shown
        if (curves := chart.curves(run))
    ]


def label(name: str) -> str:
    """A curve's name in a legend."""
    if name in LABELS:
        return LABELS[name]
    return name.rpartition("/")[2].replace("_", " ")


def _other(family: str) -> Chart:
    return Chart(family.replace("_", " ").capitalize(), "", "As recorded.", (family,), "")


def _thinned(values: list[float | None], every: int) -> list[float | None]:
    """Means of ``every`` values each, to five digits: what a screen can show."""
    groups = ([v for v in values[i : i + every] if v is not None] for i in range(0, len(values), every))
    return [float(f"{sum(group) / len(group):.5g}") if group else None for group in groups]
