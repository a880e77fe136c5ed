"""Rewards: Eq. 7, the calibration, the other normalisations, and that nothing missing is ever filled in."""

from math import inf, log, nan

import pytest
import torch

from pad_student.errors import RewardError
from pad_student.preference.rewards import calibrated_reward, likelihood_reward, student_normalization, utf8_lengths

LOG_LIKELIHOOD = torch.tensor([[-6.0, -2.0], [-9.0, -8.0]], dtype=torch.float64)
TOKENS = torch.tensor([[3, 2], [9, 4]])
SELECTION = [[0.25, 0.75], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [("mean", [-2, -1, -1, -2]), ("sum", [-6, -2, -9, -8]), ("bytes", [-3, -2, -3, -1])],
)
def test_normalisation_divides_by_what_it_names(normalization, expected):
    text_bytes = utf8_lengths([["ab", "c"], ["€", "12345678"]])
    assert likelihood_reward(LOG_LIKELIHOOD, TOKENS, normalization, text_bytes).flatten().tolist() == expected


def test_relative_takes_off_a_share_of_the_empty_requests():
    alone = torch.tensor([[-3.0, -1.0], [-9.0, -4.0]])
    whole = likelihood_reward(LOG_LIKELIHOOD, TOKENS, "relative", unconditional=alone)
    half = likelihood_reward(LOG_LIKELIHOOD, TOKENS, "relative", unconditional=alone, unconditional_weight=0.5)
    assert whole.flatten().tolist() == [-1, -0.5, 0, -1]
    assert half.flatten().tolist() == [-1.5, -0.75, -0.5, -1.5]


def test_calibration_mixes_log_likelihood_and_log_selection():
    reward = calibrated_reward(LOG_LIKELIHOOD, TOKENS, SELECTION, alpha=0.8)
    assert reward[0, 0].item() == pytest.approx(0.2 * -2 + 0.8 * log(0.25), abs=1e-7)
    assert reward[1, 1].item() == pytest.approx(0.2 * -2 + 0.8 * log(0.5), abs=1e-7)


def test_alpha_zero_needs_no_selection_probability():
    reward = calibrated_reward(LOG_LIKELIHOOD, TOKENS, None, alpha=0.0)
    assert torch.equal(reward, likelihood_reward(LOG_LIKELIHOOD, TOKENS))


def test_alpha_one_is_the_selection_alone():
    reward = calibrated_reward(LOG_LIKELIHOOD, TOKENS, torch.tensor(SELECTION), alpha=1.0)
    assert reward.flatten().tolist() == pytest.approx([log(p) for row in SELECTION for p in row])


def test_half_precision_likelihoods_are_normalised_in_float32():
    assert likelihood_reward(LOG_LIKELIHOOD.bfloat16(), TOKENS).dtype == torch.float32


def test_the_reward_carries_the_students_gradient():
    log_likelihood = LOG_LIKELIHOOD.clone().requires_grad_()
    likelihood_reward(log_likelihood, TOKENS).sum().backward()
    assert torch.allclose(log_likelihood.grad, 1 / TOKENS.double())


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (None, "missing"),
        (nan, "missing"),
        (0.0, "not above 0"),
        (-0.1, "not above 0"),
        (1.5, "above 1"),
        (inf, "above 1"),
    ],
)
def test_an_unusable_selection_probability_is_a_located_error(probability, message):
    with pytest.raises(RewardError, match=message) as error:
        calibrated_reward(LOG_LIKELIHOOD, TOKENS, [[0.25, 0.75], [0.5, probability]], alpha=0.8)
    assert "prompt 1, response 1" in str(error.value)


def test_a_tiny_probability_is_no_zero():
    reward = calibrated_reward(LOG_LIKELIHOOD.float(), TOKENS, [[1e-60, 1.0], [0.5, 0.5]], alpha=1.0)
    assert reward[0, 0].item() == pytest.approx(log(1e-60), rel=1e-6)


def test_alpha_above_zero_without_selection_is_an_error():
    with pytest.raises(RewardError, match="needs selection probabilities"):
        calibrated_reward(LOG_LIKELIHOOD, TOKENS, None, alpha=0.1)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, nan])
def test_alpha_outside_0_to_1_is_an_error(alpha):
    with pytest.raises(RewardError, match="alpha"):
        calibrated_reward(LOG_LIKELIHOOD, TOKENS, SELECTION, alpha)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_non_finite_log_likelihood_is_an_error_at_any_alpha(value):
    broken = LOG_LIKELIHOOD.clone()
    broken[0, 1] = value
    for alpha in (0.0, 1.0):
        with pytest.raises(RewardError, match="log-likelihood is not finite: prompt 0, response 1"):
            calibrated_reward(broken, TOKENS, SELECTION, alpha)


def test_an_empty_answer_counts_one_byte_for_its_end_of_turn():
    rewards = likelihood_reward(LOG_LIKELIHOOD, TOKENS, "bytes", utf8_lengths([["", "a"], ["b", "c"]]))
    assert torch.equal(rewards, LOG_LIKELIHOOD.to(rewards))


def test_nothing_to_divide_by_is_an_error():
    with pytest.raises(RewardError, match="no tokens"):
        likelihood_reward(LOG_LIKELIHOOD, TOKENS * 0)
    with pytest.raises(RewardError, match="UTF-8 length"):
        likelihood_reward(LOG_LIKELIHOOD, TOKENS, "bytes")


def test_an_unknown_normalization_and_wrong_shapes_are_errors():
    with pytest.raises(RewardError, match="one of"):
        likelihood_reward(LOG_LIKELIHOOD, TOKENS, "median")
    with pytest.raises(RewardError, match="log-likelihoods"):
        likelihood_reward(LOG_LIKELIHOOD, TOKENS[:1])
    with pytest.raises(RewardError, match="log-likelihoods"):
        calibrated_reward(LOG_LIKELIHOOD, TOKENS, [[0.5, 0.5]], alpha=0.5)


def test_relative_takes_off_the_mean_after_an_empty_request():
    unconditional = torch.tensor([[-9.0, -1.0], [-9.0, -12.0]], dtype=torch.float64)
    reward = likelihood_reward(LOG_LIKELIHOOD, TOKENS, "relative", unconditional=unconditional)
    assert reward.flatten().tolist() == [1, -0.5, 0, 1]
    half = calibrated_reward(LOG_LIKELIHOOD, TOKENS, SELECTION, 0.5, "relative", unconditional=unconditional)
    assert half[0, 0].item() == pytest.approx(0.5 * 1 + 0.5 * log(0.25))


def test_relative_without_the_empty_request_is_an_error():
    with pytest.raises(RewardError, match="--unconditional"):
        likelihood_reward(LOG_LIKELIHOOD, TOKENS, "relative")


@pytest.mark.parametrize("value", [nan, inf])
def test_an_empty_requests_value_must_be_finite(value):
    with pytest.raises(RewardError, match="not finite"):
        likelihood_reward(LOG_LIKELIHOOD, TOKENS, "relative", unconditional=torch.full((2, 2), value))


def test_relative_is_the_teachers_alone():
    given = ("relative", "mean", "sum", "bytes")
    assert [student_normalization(each) for each in given] == ["mean", "mean", "sum", "bytes"]
