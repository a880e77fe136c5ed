"""From a teacher's answers to signals: one score a response for each way to read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pad_student.evaluation.audit.asking import Array, Choices, Likelihoods, WithAndWithout

ALPHAS = (0.2, 0.5, 0.8, 1.0)
WEIGHTS = (0.6, 1.0)  # of the likelihood after an empty request; at 1 a run makes responses short


@dataclass(frozen=True, slots=True)
class Signal:
    """A named score of every response, and the settings of ``distill`` that make a run use it."""

    name: str
    scores: list[Array]  # of each set, [N]; larger is better
    settings: dict[str, object]
    tokens_per_set: float  # what a run pays the teacher for it


def by_likelihood(likelihoods: Sequence[Likelihoods], tokens_per_set: float) -> Signal:
    """The mean log-likelihood alone."""
    return Signal("likelihood", [each.mean_log_likelihood_N for each in likelihoods], {"alpha": 0.0}, tokens_per_set)


def by_relative(asked: Sequence[WithAndWithout], weight: float, tokens_per_set: float) -> Signal:
    """The mean log-likelihood less ``weight`` of the one after an empty request."""
    settings: dict[str, object] = {"alpha": 0.0, "normalization": "relative", "unconditional_weight": weight}
    scores = [each.request_N - weight * each.empty_N for each in asked]
    return Signal(f"relative likelihood, weight {weight:g}", scores, settings, tokens_per_set)


def by_choice(choices: Sequence[Choices], orders: Literal["single", "cyclic"], tokens_per_question: float) -> Signal:
    """Listwise choice in ``orders``: ``cyclic`` is the mean over all rotations, ``single`` one of them.

    Sets of known quality hold their best response first. So ``single`` takes another rotation for each set in turn:
    else a teacher that always picks A would seem to know everything.
    """
    if orders == "single":
        probabilities = [each.probabilities_O_N[k % len(each.orders_O_N)] for k, each in enumerate(choices)]
    else:
        probabilities = [each.probabilities_O_N.mean(0) for each in choices]
    scores = [np.log(_positive(each)) for each in probabilities]
    count = 1.0 if orders == "single" else float(np.mean([len(each.orders_O_N) for each in choices]))
    settings: dict[str, object] = {"alpha": 1.0, "form": "listwise", "orders": orders}
    return Signal(f"choice listwise {orders}", scores, settings, count * tokens_per_question)


def by_pairs(probabilities: Sequence[Array], tokens_per_set: float) -> Signal:
    """Pairwise choice in both orders."""
    settings: dict[str, object] = {"alpha": 1.0, "form": "pairwise", "orders": "both"}
    return Signal(
        "choice pairwise both", [np.log(_positive(each)) for each in probabilities], settings, tokens_per_set
    )


def calibrated(likelihood: Signal, choice: Signal, alpha: float) -> Signal:
    """(1 - alpha) · mean log-likelihood + alpha · log selection probability (PAD, arXiv 2502.14272, section 3.2)."""
    pairs = zip(likelihood.scores, choice.scores, strict=False)  # choice may have been asked about fewer sets
    scores = [(1 - alpha) * like_N + alpha * chosen_N for like_N, chosen_N in pairs]
    tokens = choice.tokens_per_set + (likelihood.tokens_per_set if alpha < 1 else 0)
    return Signal(f"{choice.name}, alpha {alpha:g}", scores, choice.settings | {"alpha": alpha}, tokens)


def _positive(probabilities: Array) -> Array:
    """Selection probabilities as they are; a softmax in float64 may underflow to 0, whose logarithm is not finite."""
    return np.maximum(probabilities, np.finfo(np.float64).tiny)
