"""Rewards from likelihoods and selection probabilities: r̂ = (1-α)·r + α·ln p_sel (PAD, arXiv 2502.14272, Eq. 7).

The student's reward is r alone. A value that is missing is an error here, never a default: a log-probability of 0
would mean certainty.
"""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from pad_student.errors import RewardError
from pad_student.preference.settings import Normalization

SelectionProbabilities = Tensor | Sequence[Sequence[float | None]]


def likelihood_reward(
    log_likelihood: Tensor,
    tokens: Tensor,
    normalization: Normalization = "mean",
    text_bytes: Tensor | None = None,
    unconditional: Tensor | None = None,
    unconditional_weight: float = 1.0,
) -> Tensor:
    """Reward r from log-likelihoods, differentiable.

    Eq. 7 divides by the number of tokens under the model that scored; that is a definition, and ln Z does not cancel
    between responses of different length, so there are others to choose from.

    Args:
        log_likelihood: ln p(response | prompt) in nats, [P, N].
        tokens: scored tokens of each response under the same model, [P, N].
        normalization: ``mean`` divides by tokens, ``sum`` by nothing, ``bytes`` by UTF-8 bytes of the text (1 if it
            is empty), which unlike tokens are the same for every tokenizer.
        text_bytes: [P, N], needed by ``bytes``.
        unconditional: ln p(response | empty request) in nats, [P, N], needed by ``relative``, which takes it off.
        unconditional_weight: the share of it that ``relative`` takes off.

    Returns:
        [P, N] in nats, nats a token or nats a byte; at least float32.

    Raises:
        RewardError: for a non-finite log-likelihood, a response without tokens, or an unknown normalization.

    """
    log_likelihood_P_N = log_likelihood.to(torch.promote_types(log_likelihood.dtype, torch.float32))
    _require(log_likelihood_P_N.isfinite(), "log-likelihood is not finite")
    match normalization:
        case "sum":
            return log_likelihood_P_N
        case "mean":
            return log_likelihood_P_N / _positive_counts(tokens, log_likelihood_P_N, "tokens")
        case "bytes" if text_bytes is not None:
            # A finished answer may have no text: its end of turn counts as one byte.
            return log_likelihood_P_N / _positive_counts(text_bytes.clamp(min=1), log_likelihood_P_N, "bytes of text")
        case "relative" if unconditional is not None:
            _require(unconditional.isfinite(), "log-likelihood after an empty request is not finite")
            relative_P_N = log_likelihood_P_N - unconditional_weight * unconditional
            return relative_P_N / _positive_counts(tokens, log_likelihood_P_N, "tokens")
        case "relative":
            raise RewardError(
                'normalization "relative" needs log-likelihoods after an empty request; score with --unconditional'
            )
        case "bytes":
            raise RewardError('normalization "bytes" needs the UTF-8 length of every response')
        case _:
            raise RewardError(f"normalization must be one of {get_args(Normalization)}, got {normalization!r}")


def calibrated_reward(
    log_likelihood: Tensor | None,
    tokens: Tensor | None,
    selection_probability: SelectionProbabilities | None,
    alpha: float,
    normalization: Normalization = "mean",
    text_bytes: Tensor | None = None,
    unconditional: Tensor | None = None,
    unconditional_weight: float = 1.0,
    log_selection: SelectionProbabilities | None = None,
) -> Tensor:
    """The teacher's calibrated reward r̂ = (1-α)·r + α·ln p_sel.

    Args:
        log_likelihood: as for ``likelihood_reward``, like ``tokens``, ``normalization`` and ``text_bytes``; None if
            the teacher tells none, which only α = 1 allows.
        tokens: [P, N].
        selection_probability: [P, N], in (0, 1]; ignored at α = 0.
        alpha: weight of the selection probability, in [0, 1].
        normalization: of the likelihood.
        text_bytes: [P, N].
        unconditional: [P, N].
        unconditional_weight: of ``unconditional`` in a relative likelihood.
        log_selection: ln p_sel in nats, [P, N], where it is not the logarithm of ``selection_probability``: its
            posterior mean, if a teacher votes.

    Returns:
        [P, N], at least float32.

    Raises:
        RewardError: as ``likelihood_reward``; for α outside [0, 1]; and, if α > 0, for a selection probability
            that is missing, zero, above 1 or not finite.

    """
    if not 0 <= alpha <= 1:
        raise RewardError(f"alpha must lie in [0, 1], got {alpha}")
    if log_likelihood is None or tokens is None:
        if alpha < 1:
            raise RewardError(f"alpha {alpha:g} needs log-likelihoods, and this teacher only chooses: set alpha to 1")
        return _log_selection(selection_probability, log_selection)
    reward_P_N = likelihood_reward(
        log_likelihood, tokens, normalization, text_bytes, unconditional, unconditional_weight
    )
    if alpha == 0:
        return reward_P_N
    log_selection_P_N = _log_selection(selection_probability, log_selection).to(reward_P_N)
    if log_selection_P_N.shape != reward_P_N.shape:
        shapes = f"{list(log_selection_P_N.shape)}, log-likelihoods {list(reward_P_N.shape)}"
        raise RewardError(f"selection probabilities are {shapes}")
    return (1 - alpha) * reward_P_N + alpha * log_selection_P_N


def student_normalization(normalization: Normalization) -> Normalization:
    """The student's normalization in a run: ``relative`` is the teacher's alone, and the student's is ``mean``."""
    return "mean" if normalization == "relative" else normalization


def utf8_lengths(texts: Sequence[Sequence[str]]) -> Tensor:
    """Bytes of each text in UTF-8, int64 [P, N], for ``normalization="bytes"``."""
    return torch.tensor([[len(text.encode()) for text in row] for row in texts])


def _log_selection(
    selection_probability: SelectionProbabilities | None, log_selection: SelectionProbabilities | None
) -> Tensor:
    if selection_probability is None:
        raise RewardError("alpha > 0 needs selection probabilities: score with selection, or set alpha to 0")
    probability_P_N = _as_tensor(selection_probability)
    probability_P_N = probability_P_N.to(torch.promote_types(probability_P_N.dtype, torch.float32))
    _require(~probability_P_N.isnan(), "selection probability is missing")
    _require(probability_P_N > 0, "selection probability is not above 0, so it has no logarithm")
    _require(probability_P_N <= 1 + 1e-4, "selection probability is above 1")  # slack: renormalised in float32
    if log_selection is None:
        return probability_P_N.log()
    log_selection_P_N = _as_tensor(log_selection)
    return torch.where(log_selection_P_N.isnan(), probability_P_N.log(), log_selection_P_N)


def _as_tensor(values: SelectionProbabilities) -> Tensor:
    """A missing value is not a number."""
    if isinstance(values, Tensor):
        return values
    missing = float("nan")
    rows = [[missing if value is None else value for value in row] for row in values]
    return torch.tensor(rows, dtype=torch.float64)  # in float32 the smallest would round to 0


def _positive_counts(counts: Tensor, like_P_N: Tensor, what: str) -> Tensor:
    if counts.shape != like_P_N.shape:
        raise RewardError(f"{what} are {list(counts.shape)}, log-likelihoods {list(like_P_N.shape)}")
    _require(counts > 0, f"response has no {what} to divide by")
    return counts.to(like_P_N)


def _require(holds_P_N: Tensor, complaint: str) -> None:
    if not holds_P_N.all():
        prompt, response, *_ = [*(~holds_P_N).nonzero()[0].tolist(), 0]
        raise RewardError(f"{complaint}: prompt {prompt}, response {response} of the batch")


# pyright: standard
