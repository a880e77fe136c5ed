"""From win rates to settings: alpha, form, orders, and a beta_teacher at which preferences are not one-hot."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial, log

import numpy as np
import torch

from pad_student.evaluation.audit.asking import Array
from pad_student.evaluation.audit.signals import Signal
from pad_student.evaluation.audit.statistics import WinRate
from pad_student.preference.plackett_luce import MAX_EXACT, entropy

ENTROPY_BAND = (0.3, 0.7)  # of ln n!: below, one ranking has nearly all the mass; above, all are nearly as likely
BETAS = (0.01, 1000.0)
STEPS = 40


@dataclass(frozen=True, slots=True)
class JudgedSignal:
    """A signal, how often it ranks the better response first, and the likelihood's win rate over the same sets."""

    signal: Signal
    win_rate: WinRate
    likelihood_win_rate: WinRate


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings for ``distill``, the win rate that they rest on, and the reason in words."""

    settings: dict[str, object]
    win_rate: WinRate
    why: list[str]


def recommend(judged: Sequence[JudgedSignal]) -> Recommendation:
    """The signal whose better response wins most often; the cheaper one if two are equal.

    A signal with choice in it is only considered if choice alone is above chance, and if it wins more often than
    likelihood does over the same sets.

    Args:
        judged: the first is likelihood alone; every choice signal of alpha 1 stands among them.
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
        if alone[_form_and_orders(each)].win_rate.above_chance and each.win_rate.mean > each.likelihood_win_rate.mean
    ]
    best = (
        max(
            usable, key=lambda each: (each.win_rate.mean - each.likelihood_win_rate.mean, -each.signal.tokens_per_set)
        )
        if usable
        else likelihood
    )
    if best is likelihood:
        why.append(f"likelihood alone is recommended ({_in_words(likelihood.win_rate)})")
    else:
        why.append(
            f"{best.signal.name} is recommended: {_in_words(best.win_rate)}, where likelihood alone has"
            f" {best.likelihood_win_rate.mean:.2f} over the same sets"
        )
    if not best.win_rate.above_chance:
        why.append("no signal is above chance: this teacher cannot tell good responses from bad ones here")
    beta = beta_for(best.signal.scores)
    return Recommendation(best.signal.settings | {"beta_teacher": beta}, best.win_rate, why)


def beta_for(scores: Sequence[Array]) -> float:
    """The beta_teacher at which the median entropy of the preferences is halfway between none and ln n!.

    Two digits, found by bisection: entropy over rankings falls as beta grows.
    """
    scores = [score_N for score_N in scores if 1 < len(score_N) <= MAX_EXACT]
    if not scores or not any(np.ptp(score_N) for score_N in scores):
        return 1.0
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
