"""From win rates to settings: alpha, form, orders, and a beta_teacher at which preferences are not one-hot."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial, log

import numpy as np
import torch

from pad_student.evaluation.audit.asking import Array
from pad_student.evaluation.audit.known_sets import OTHERS as SPOILT
from pad_student.evaluation.audit.signals import Signal
from pad_student.evaluation.audit.statistics import Gain, WinRate
from pad_student.preference.plackett_luce import MAX_EXACT, entropy

ENTROPY_BAND = (0.3, 0.7)  # of ln n!: below, one ranking has nearly all the mass; above, all are nearly as likely
# A smaller beta leaves a student's samples, which lie close together, nearly without preference; a larger one turns
# the noise of a nearly even signal into certainty.
BETAS = (5.0, 20.0)  # from half to twice the default
STEPS = 40


@dataclass(frozen=True, slots=True)
class JudgedSignal:
    """A signal, how often it ranks the better response first, and the same of likelihood over the same sets.

    ``gain`` is the difference of the two, paired by set.
    """

    signal: Signal
    win_rate: WinRate
    likelihood_win_rate: WinRate
    gain: Gain


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings for ``distill``, the win rate that they rest on, and the reason in words."""

    settings: dict[str, object]
    win_rate: WinRate
    why: list[str]


def recommend(judged: Sequence[JudgedSignal], kinds: Sequence[Sequence[str]]) -> Recommendation:
    """Likelihood, or the signal whose better response wins most often; the cheaper one if two are equal.

    Another signal is only considered if it wins more often than likelihood over the same sets, by an interval that
    excludes zero: the best of a dozen noisy signals is otherwise the luckiest. One with choice in it is only
    considered if choice alone is above chance.

    Args:
        judged: the first is likelihood alone; every choice signal of alpha 1 stands among them.
        kinds: of each set, the kind of each response.
    """
    likelihood = judged[0]
    alone = {_form_and_orders(each): each for each in judged if each.signal.settings["alpha"] == 1.0}
    why = [
        f"{each.signal.name} is at chance ({_in_words(each.win_rate)}): it is not recommended at any alpha"
        for each in alone.values()
        if not each.win_rate.above_chance
    ]
    usable = [
        each
        for each in judged[1:]
        if each.gain.low > 0 and alone.get(_form_and_orders(each), each).win_rate.above_chance
    ]
    best = max(usable, key=lambda each: (each.gain.mean, -each.signal.tokens_per_set), default=likelihood)
    if best is likelihood:
        why.append(f"likelihood alone is recommended ({_in_words(likelihood.win_rate)})")
    else:
        why.append(
            f"{best.signal.name} is recommended: {_in_words(best.win_rate)}, where likelihood alone has"
            f" {best.likelihood_win_rate.mean:.2f} over the same sets"
        )
    if not best.win_rate.above_chance:
        why.append("no signal is above chance: this teacher cannot tell good responses from bad ones here")
    beta = beta_for(plausible(best.signal.scores, kinds))
    if beta in BETAS:
        why.append(
            f"beta_teacher is at a bound of its range, {BETAS[0]:g} to {BETAS[1]:g}; watch the run's entropy/teacher"
        )
    return Recommendation(best.signal.settings | {"beta_teacher": beta}, best.win_rate, why)


def plausible(scores: Sequence[Array], kinds: Sequence[Sequence[str]]) -> list[Array]:
    """The scores of responses that a student might give. Those spoilt on purpose lie far from all others."""
    return [
        score_N[[k for k, kind in enumerate(of_set) if kind not in SPOILT]]
        for score_N, of_set in zip(scores, kinds, strict=False)  # choice may have been asked about fewer sets
    ]


def beta_for(scores: Sequence[Array]) -> float:
    """The beta_teacher at which the median entropy of the preferences is halfway between none and ln n!.

    Two digits, found by bisection within ``BETAS``: entropy over rankings falls as beta grows.
    """
    scores = [score_N for score_N in scores if 1 < len(score_N) <= MAX_EXACT]
    if not scores or not any(np.ptp(score_N) for score_N in scores):
        return BETAS[0]
    low, high = BETAS
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if median_entropy(scores, middle) > sum(ENTROPY_BAND) / 2 else (low, middle)
    return float(f"{low:.2g}")


def median_entropy(scores: Sequence[Array], beta: float) -> float:
    """The median over sets of the entropy of the Plackett-Luce distribution, as a share of ln n!."""
    shares = [
        entropy(torch.tensor((beta * score_N)[None])).item() / log(factorial(len(score_N))) for score_N in scores
    ]
    return float(np.median(shares))


def _form_and_orders(judged: JudgedSignal) -> tuple[object, object]:
    return judged.signal.settings.get("form"), judged.signal.settings.get("orders")


def _in_words(rate: WinRate) -> str:
    return f"the better response wins {rate.mean:.2f} of pairs, 95 % interval {rate.low:.2f} to {rate.high:.2f}"
