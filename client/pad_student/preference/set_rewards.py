"""The teacher's rewards of scored sets, and how settled its preference over each set is."""

from collections.abc import Sequence
from math import lgamma
from typing import Any

import torch
from torch import Tensor

from pad_student.preference.plackett_luce import MAX_EXACT, entropy, estimated_entropy
from pad_student.preference.rewards import calibrated_reward, utf8_lengths
from pad_student.preference.settings import Normalization
from pad_wire import ScoredSet


def reward_settings(config: Any) -> dict[str, Any]:
    """The settings of a run that ``teacher_rewards`` takes; token-level methods ask for likelihoods alone."""
    if config.method != "pad":
        return {"alpha": 0.0}
    return {name: getattr(config, name) for name in ("alpha", "normalization", "unconditional_weight")}


def teacher_rewards(
    sets: Sequence[ScoredSet],
    *,
    alpha: float,
    normalization: Normalization = "mean",
    unconditional_weight: float = 1.0,
) -> Tensor:
    """The calibrated rewards of P scored sets with N responses each.

    Args:
        sets: all of one size.
        alpha: weight of the log selection probability in the reward, in [0, 1]; see ``calibrated_reward``.
        normalization: how log-likelihoods are normalised; see ``likelihood_reward``.
        unconditional_weight: see ``likelihood_reward``.

    Returns:
        [P, N], in the units of ``normalization``.

    Raises:
        RewardError: for a number that is missing or cannot be used.
    """
    return calibrated_reward(
        _of_all(sets, "log_likelihood"),
        _of_all(sets, "tokens"),
        [[r.selection_probability for r in each.responses] for each in sets],
        alpha,
        normalization,
        utf8_lengths([[response.text for response in each.responses] for each in sets]),
        _of_all(sets, "unconditional_log_likelihood") if normalization == "relative" else None,
        unconditional_weight,
        [[r.log_selection_probability for r in each.responses] for each in sets],
    )


def entropy_over_texts(scored: ScoredSet, config: Any) -> float:
    """Entropy of the teacher's rankings of a set's texts, over that of equal rewards: 0 one-hot, 1 uniform.

    Args:
        scored: a set of two texts and more; copies of one text count as one.
        config: the run's, for its rewards and ``beta_teacher``.

    Raises:
        RewardError: for a number that is missing or cannot be used.
        ValueError: for a set of one text.
    """
    by_text = {(response.text, response.finished): response for response in reversed(scored.responses)}
    if len(by_text) < 2:
        raise ValueError("a set of one text has no preference")
    texts = scored.model_copy(update={"responses": list(by_text.values())})
    scores_1_N = config.beta_teacher * teacher_rewards([texts], **reward_settings(config))
    uncertainty = entropy if len(by_text) <= MAX_EXACT else estimated_entropy
    return uncertainty(scores_1_N).item() / lgamma(len(by_text) + 1)


def _of_all(sets: Sequence[ScoredSet], name: str) -> Tensor | None:
    """A number of every response, float64 [P, N]; None if one has none."""
    values = [[getattr(response, name) for response in each.responses] for each in sets]
    if any(value is None for row in values for value in row):
        return None
    return torch.tensor(values, dtype=torch.float64)


# pyright: standard
