"""The charts of the page: the curves of each, its explanation, and the reason if it is missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pad_student.evaluation.report.collect import Curve, Run, Warned

MOST_POINTS = 2000  # a chart is no wider in pixels
MOST_RANKS = 8  # curves of one family that an eye can tell apart
# The curve that shows what a warning of each kind speaks of.
MARKED = {
    "choice at chance": "choice/spread",
    "cut": "share/cut",
    "displacement": "mean_log_likelihood/",
    "entropy": "token_entropy/student",
    "gradient not finite": "grad_norm",
    "gradient vanished": "grad_norm",
    "label mass": "label_mass",
    "one text": "share/one_text",
    "one-hot": "entropy/teacher",
    "plateau": "loss",
    "still": "loss",
    "uniform": "entropy/teacher",
}
LABELS = {"agreement/top1": "same best", "agreement/pairwise": "pairs"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A title, a unit, an explanation, the curves by name or prefix, and a sentence for a run that lacks them all.

    ``most`` limits the number of curves.
    """

    title: str
    unit: str
    meaning: str
    holds: tuple[str, ...]
    missing: str
    most: int | None = None

    def curves(self, run: Run) -> list[Curve]:
        """Its curves in the run, without repeated ones; of more than ``most``, evenly spaced ones with both ends."""
        found: list[Curve] = []
        for curve in run.curves.values():
            if curve.name.startswith(self.holds) and all(curve.values != other.values for other in found):
                found.append(curve)
        if self.most is None or len(found) <= self.most:
            return found
        return [found[k * (len(found) - 1) // (self.most - 1)] for k in range(self.most)]


CHARTS = (
    Chart(
        "Held-out prompts: gain over the start",
        "",
        "Of the teacher's reward in nats and of the rule's grade, with the ends of its 95 % interval over prompts.",
        ("eval_reward_gain", "eval_grade_gain"),
        "No held-out prompts: give eval_prompts, and every eval_steps steps the student is judged on them.",
    ),
    Chart(
        "Held-out prompts: wins against the start",
        "share",
        "Share of prompts whose answer the teacher rewards more than the starting student's; ties count half.",
        ("eval_win_rate",),
        "Wins against the start were not recorded: no teacher judged held-out prompts.",
    ),
    Chart(
        "Held-out rows: distance, loss",
        "",
        "KL: how far the student has moved from its start, in nats a token. Loss and agreement are of held-out sets.",
        ("eval_kl", "eval_loss", "eval_agreement"),
        "Other figures on held-out rows were not recorded.",
    ),
    Chart("Loss", "nats", "The minimised value.", ("loss",), "The loss was not recorded."),
    Chart(
        "Agreement with the teacher",
        "share",
        "Share of pairs that teacher and student order alike, and of prompts with the same best response. Chance is"
        " half for pairs. Kendall's tau is twice the share of pairs, less one.",
        ("agreement/",),
        "Agreement was not recorded.",
    ),
    Chart(
        "Rewards",
        "nats",
        "Mean reward of the responses trained on. The teacher's choice is relative to the other responses of a set.",
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
        "Responses that teach little",
        "share",
        "Cut: responses that stopped at their longest length. Copies: responses that repeat another of their set. One"
        " text: sets whose responses are all the same, which have no preference to learn. Other ids: responses that"
        " the student drew in other tokens than its tokenizer makes of their text.",
        ("share/",),
        "Shares of cut and repeated responses were not recorded: the run was made by an earlier version.",
    ),
    Chart(
        "Label mass",
        "probability",
        "Probability that the teacher gave to the option letters. If it is small, selection probabilities are noise.",
        ("label_mass",),
        "No label mass: the teacher was asked no multiple-choice questions (alpha 0), or its scores lack them.",
    ),
    Chart(
        "Choice",
        "total variation",
        "Spread: how far selection probabilities are from equal ones. Order disagreement: how far two orders of the"
        " same responses differ. If the first is much smaller than the second, choice follows letters.",
        ("choice/",),
        "No spread of choice: the teacher was asked no multiple-choice questions, or in one order only.",
    ),
    Chart(
        "Log-likelihood by the teacher's rank",
        "nats a token",
        "Rank 1 is the teacher's best response. If all fall together, that is likelihood displacement. The chart"
        " draws some of many ranks; the table of figures has all.",
        ("mean_log_likelihood/",),
        "Log-likelihoods by rank were not recorded.",
        MOST_RANKS,
    ),
    Chart(
        "Entropy of the rankings",
        "of the greatest",
        "0: certain of one ranking. 1: all rankings are equally likely.",
        ("entropy/",),
        "Entropies were not recorded.",
    ),
    Chart("Gradient norm", "", "Before clipping.", ("grad_norm",), "The gradient norm was not recorded."),
    Chart("Learning rate", "", "As scheduled.", ("learning_rate",), "The learning rate was not recorded."),
    Chart(
        "Seconds by phase",
        "s",
        "Wall seconds of each step, by phase.",
        ("seconds/",),
        "Seconds by phase were not recorded: the run was made by an earlier version.",
    ),
    Chart(
        "The teacher's seconds",
        "s",
        "Wall seconds of each step while the teacher had sets of this run, and while it had none.",
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
    """All charts of a run: the known ones, and one for each other family of figures in it."""
    known = tuple(prefix for chart in CHARTS for prefix in chart.holds)
    others = sorted(name for name in run.curves if not name.startswith((*known, "length/", "eval_")))
    return [*CHARTS, *(_other(family) for family, _ in groupby(others, key=lambda name: name.partition("/")[0]))]


def plots(run: Run, shown: Iterable[Chart]) -> list[dict[str, Any]]:
    """Data for the page's script, one entry for each chart with curves."""
    steps, every = run.steps, -(-len(run.steps) // MOST_POINTS) or 1
    return [
        {
            "title": chart.title,
            "steps": steps[::every],
            "series": [{"name": label(each.name), "values": downsample(each.values, every)} for each in curves],
            "marks": list(_marks(run, curves)),
        }
        for chart in shown
        if (curves := chart.curves(run))
    ]


def label(name: str) -> str:
    """A curve's name in a legend."""
    if name in LABELS:
        return LABELS[name]
    return name.removeprefix("eval_").rpartition("/")[2].replace("_", " ")


def downsample(values: list[float | None], every: int) -> list[float | None]:
    """Means of ``every`` values each, to five digits; a screen shows no more."""
    groups = ([v for v in values[i : i + every] if v is not None] for i in range(0, len(values), every))
    return [float(f"{sum(group) / len(group):.5g}") if group else None for group in groups]


def _marks(run: Run, curves: list[Curve]) -> Iterator[dict[str, Any]]:
    """The warnings that one of the curves shows, each at its step on the first that does."""
    for warned in run.warned:
        shown = next((k for k, each in enumerate(curves) if each.name == marked_curve(run, warned)), None)
        if shown is not None:
            yield {"series": shown, "x": warned.step, "text": warned.text}


def marked_curve(run: Run, warned: Warned) -> str | None:
    """The name of the curve that shows what a warning speaks of; None if it was not recorded."""
    shown = MARKED.get(warned.kind, "loss")
    return next((name for name in run.curves if name.startswith(shown)), None)


def _other(family: str) -> Chart:
    return Chart(family.replace("_", " ").capitalize(), "", "As recorded.", (family,), "")
