"""One audit from start to end: it asks within a time limit, computes the statistics and recommends settings."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pad_student.evaluation.audit import asking
from pad_student.evaluation.audit.asking import Array, Choices, Cost, Likelihoods, WithAndWithout
from pad_student.evaluation.audit.known_sets import KnownSet
from pad_student.evaluation.audit.recommend import JudgedSignal, Recommendation, recommend
from pad_student.evaluation.audit.signals import (
    ALPHAS,
    WEIGHTS,
    Signal,
    by_choice,
    by_likelihood,
    by_pairs,
    by_relative,
    calibrated,
)
from pad_student.evaluation.audit.statistics import (
    correlation_within_sets,
    letter_means,
    order_disagreement,
    paired_gain,
    same_order,
    same_pick,
    win_rate,
)
from pad_student.teacher.client import Teacher

LEAST_SETS = 12  # of choice, however slow the teacher is: with fewer no interval means anything
PAIRWISE_SHARE = 0.4  # of the time that is left for questions

Say = Callable[[str], None]


@dataclass(slots=True)
class Answers:
    """The teacher's answers. Choice may have been asked about the first sets only."""

    sets: Sequence[KnownSet]
    likelihoods: list[Likelihoods] = field(default_factory=list[Likelihoods])
    relative: list[WithAndWithout] = field(default_factory=list[WithAndWithout])
    choices: list[Choices] = field(default_factory=list[Choices])
    pairs: list[Array] = field(default_factory=list[Array])
    costs: dict[str, Cost] = field(
        default_factory=lambda: {name: Cost() for name in ("likelihood", "relative", "listwise", "pairwise")}
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """One teacher's signals, their statistics, and the settings that they recommend."""

    teacher: dict[str, str]
    judged: list[JudgedSignal]
    choice: dict[str, Any]
    likelihood: dict[str, Any]
    signals_agree: float  # share of pairs that likelihood and listwise choice order alike
    costs: dict[str, Cost]
    recommendation: Recommendation

    def as_json(self) -> dict[str, Any]:
        """Everything but single scores."""
        return {
            "teacher": self.teacher,
            "signals": [
                {
                    "name": each.signal.name,
                    "settings": each.signal.settings,
                    "teacher_tokens_per_set": each.signal.tokens_per_set,
                    **asdict(each.win_rate),
                    "likelihood_over_the_same_sets": each.likelihood_win_rate.mean,
                    "gain_over_likelihood": asdict(each.gain),
                }
                for each in self.judged
            ],
            "choice": self.choice,
            "likelihood": self.likelihood,
            "signals_agree": self.signals_agree,
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "recommendation": {"settings": self.recommendation.settings, "why": self.recommendation.why},
        }


def audit(teacher: Teacher, sets: Sequence[KnownSet], seconds: float, say: Say = lambda _: None) -> Audit:
    """Audit one teacher: ask, compute the statistics, recommend settings.

    Args:
        teacher: the one to audit.
        sets: of known quality; choice is asked about the first ones, until the time is over.
        seconds: about how long all may take.
        say: receives a line before each stage.

    Raises:
        TeacherError: if the teacher does not answer, or refuses.
    """
    card = teacher.model()
    answers = _ask_all(teacher, sets, time.monotonic() + seconds, say)
    judged = _judge_signals(answers)
    tokens = [each.tokens_N for each in answers.likelihoods]
    listwise = [each.probabilities_O_N.mean(0) for each in answers.choices]
    scores = [each.mean_log_likelihood_N for each in answers.likelihoods]
    return Audit(
        teacher={"model": card.id, "fingerprint": card.fingerprint},
        judged=judged,
        choice={
            "sets": len(answers.choices),
            "label_mass": sum(each.label_mass for each in answers.choices) / len(answers.choices),
            "mean_probability_by_letter": letter_means(answers.choices),
            "same_pick_in_all_orders": same_pick(answers.choices),
            "order_disagreement": order_disagreement(answers.choices),
            "correlation_with_length": correlation_within_sets(listwise, tokens[: len(listwise)]),
        },
        likelihood={"sets": len(scores), "correlation_with_length": correlation_within_sets(scores, tokens)},
        signals_agree=same_order(scores[: len(listwise)], listwise),
        costs=answers.costs,
        recommendation=recommend(judged, [known.kinds for known in sets]),
    )


def _ask_all(teacher: Teacher, sets: Sequence[KnownSet], until: float, say: Say) -> Answers:
    answers = Answers(sets)
    say(f"likelihood of {len(sets)} sets")
    asking.add_cost(
        teacher,
        len(sets),
        lambda: answers.likelihoods.extend(asking.likelihoods(teacher, sets)),
        answers.costs["likelihood"],
    )
    say("the same responses after an empty request")
    asking.add_cost(
        teacher,
        len(sets),
        lambda: answers.relative.extend(asking.with_and_without_request(teacher, sets)),
        answers.costs["relative"],
    )
    now = time.monotonic()
    listwise_until = until - PAIRWISE_SHARE * max(0.0, until - now)
    say("listwise choice, in every rotation")
    _ask_until(
        listwise_until,
        sets,
        lambda part: answers.choices.extend(asking.listwise(teacher, part)),
        teacher,
        answers.costs["listwise"],
    )
    say("pairwise choice, in both orders")
    _ask_until(
        until,
        sets[: len(answers.choices)],
        lambda part: answers.pairs.extend(asking.pairwise(teacher, part)),
        teacher,
        answers.costs["pairwise"],
    )
    return answers


def _ask_until(
    until: float, sets: Sequence[KnownSet], ask: Callable[[Sequence[KnownSet]], None], teacher: Teacher, cost: Cost
) -> None:
    """Ask about at least ``LEAST_SETS``, then a few more at a time while there is time."""
    done, more = 0, min(LEAST_SETS, len(sets))
    while more:
        part = sets[done : done + more]
        asking.add_cost(teacher, len(part), lambda part=part: ask(part), cost)
        done += more
        left, each = until - time.monotonic(), cost.seconds / cost.sets
        more = min(LEAST_SETS, len(sets) - done, int(left / each) if each and left > 0 else 0)


def _judge_signals(answers: Answers) -> list[JudgedSignal]:
    kinds = [known.kinds for known in answers.sets]
    likelihood = by_likelihood(answers.likelihoods, answers.costs["likelihood"].tokens_per_set)
    questions = sum(len(each.orders_O_N) for each in answers.choices)
    per_question = answers.costs["listwise"].teacher_tokens / questions
    choices = [by_choice(answers.choices, "single", per_question), by_choice(answers.choices, "cyclic", per_question)]
    if answers.pairs:
        choices.append(by_pairs(answers.pairs, answers.costs["pairwise"].tokens_per_set))
    relative_tokens = answers.costs["relative"].tokens_per_set
    relative = [by_relative(answers.relative, weight, relative_tokens) for weight in WEIGHTS]
    signals: list[Signal] = [likelihood, *relative]
    for choice in choices:
        signals += [calibrated(likelihood, choice, alpha) if alpha < 1 else choice for alpha in ALPHAS]
    judged: list[JudgedSignal] = []
    for signal in signals:
        count = len(signal.scores)
        same, of = likelihood.scores[:count], kinds[:count]
        gain = paired_gain(signal.scores, same, of)
        judged.append(JudgedSignal(signal, win_rate(signal.scores, of), win_rate(same, of), gain))
    return judged
