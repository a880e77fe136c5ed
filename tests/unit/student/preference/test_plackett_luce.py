"""Plackett-Luce maths against a brute-force oracle in plain Python floats."""

from itertools import permutations
from math import exp, factorial, fsum, inf, log, nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_student.preference.plackett_luce import MAX_EXACT, entropy, jsd, kl, log_prob, rankings

torch.set_num_threads(1)

few_examples = settings(max_examples=25, deadline=None)
score = st.floats(-4, 4, allow_nan=False)


def score_rows(n_rows, min_n=1, max_n=5):
    return st.integers(min_n, max_n).flatmap(
        lambda n: st.tuples(*[st.lists(score, min_size=n, max_size=n) for _ in range(n_rows)])
    )


def oracle_distribution(scores):
    """The ln P(τ) of every ranking, one at a time."""
    return [
        fsum(scores[best] - log(fsum(exp(scores[i]) for i in order[k:])) for k, best in enumerate(order))
        for order in permutations(range(len(scores)))
    ]


def oracle_kl(p, q):
    return fsum(exp(a) * (a - b) for a, b in zip(oracle_distribution(p), oracle_distribution(q), strict=True))


def oracle_jsd(p, q):
    pairs = list(zip(oracle_distribution(p), oracle_distribution(q), strict=True))
    mixture = [log((exp(a) + exp(b)) / 2) for a, b in pairs]
    return fsum(0.5 * exp(a) * (a - m) + 0.5 * exp(b) * (b - m) for (a, b), m in zip(pairs, mixture, strict=True))


def double(*rows, grad=False):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=grad)


def random_pair(n, prompts=2, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(prompts, n, generator=generator, dtype=torch.float64) for _ in range(2)]


@few_examples
@given(score_rows(1))
def test_rankings_have_the_oracles_log_prob_and_sum_to_one(rows):
    (scores,) = rows
    every = rankings(len(scores)).unsqueeze(0)
    log_p = log_prob(double(scores), every)[0]
    assert log_p.tolist() == pytest.approx(oracle_distribution(scores), abs=1e-10)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_log_prob_of_one_ranking_a_prompt_has_shape_prompts():
    p, _ = random_pair(4)
    ranking = torch.tensor([[2, 0, 1, 3], [3, 2, 1, 0]])
    assert torch.equal(log_prob(p, ranking), log_prob(p, ranking.unsqueeze(1)).squeeze(1))


def test_log_prob_of_two_responses_is_bradley_terry():
    assert log_prob(double([1.5, 0.5]), torch.tensor([[0, 1]])).item() == pytest.approx(-log(1 + exp(-1)), abs=1e-15)


def test_tied_scores_make_every_ranking_equally_likely():
    tied = double([0.3] * 5)
    assert log_prob(tied, rankings(5).unsqueeze(0))[0].tolist() == pytest.approx([-log(120)] * 120, abs=1e-12)
    assert entropy(tied).item() == pytest.approx(log(120), abs=1e-12)


def test_rankings_lists_each_permutation_once():
    assert [tuple(row) for row in rankings(4).tolist()] == list(permutations(range(4)))


@few_examples
@given(score_rows(2, max_n=6))
def test_subset_recursion_equals_enumeration(rows):
    p, q = rows
    assert kl(double(p), double(q)).item() == pytest.approx(oracle_kl(p, q), abs=1e-10)
    assert entropy(double(p)).item() == pytest.approx(-fsum(exp(a) * a for a in oracle_distribution(p)), abs=1e-10)


@few_examples
@given(score_rows(2))
def test_jsd_equals_enumeration_and_lies_between_0_and_ln_2(rows):
    p, q = rows
    value = jsd(double(p), double(q)).item()
    assert value == pytest.approx(oracle_jsd(p, q), abs=1e-10)
    assert 0 <= value <= log(2)


@few_examples
@given(score_rows(2))
def test_jsd_is_symmetric_exact_or_sampled(rows):
    p, q = double(rows[0]), double(rows[1])
    assert jsd(p, q).item() == pytest.approx(jsd(q, p).item(), abs=1e-14)
    one_way, other_way = (jsd(a, b, 16, torch.Generator().manual_seed(0)).item() for a, b in ((p, q), (q, p)))
    assert one_way == pytest.approx(other_way, abs=1e-14)


@few_examples
@given(score_rows(1), st.floats(-3, 3))
def test_divergences_vanish_for_equal_distributions(rows, shift):
    p = double(rows[0])
    assert jsd(p, p).item() == 0
    assert jsd(p, p, samples=8).item() == 0
    assert kl(p, p).item() == 0
    assert jsd(p, p + shift).item() == pytest.approx(0, abs=1e-14)


@few_examples
@given(score_rows(1, min_n=2), st.floats(0.01, 3))
def test_divergences_are_positive_for_different_distributions(rows, change):
    p = double(rows[0])
    q = p.clone()
    q[0, 0] += change
    assert jsd(p, q).item() > 0
    assert kl(p, q).item() > 0


@few_examples
@given(score_rows(2, min_n=2), st.randoms(use_true_random=False))
def test_values_do_not_depend_on_the_order_of_responses(rows, random):
    order = list(range(len(rows[0])))
    random.shuffle(order)
    (p, q), (p_moved, q_moved) = ((double(row) for row in rows), (double(row)[:, order] for row in rows))
    for value, moved in ((kl(p, q), kl(p_moved, q_moved)), (jsd(p, q), jsd(p_moved, q_moved))):
        assert value.item() == pytest.approx(moved.item(), abs=1e-12)
    assert entropy(p).item() == pytest.approx(entropy(p_moved).item(), abs=1e-12)


def test_values_do_not_depend_on_other_prompts_in_the_batch():
    p, q = random_pair(5, prompts=3)
    for together, alone in ((kl(p, q), kl(p[1:2], q[1:2])), (jsd(p, q), jsd(p[1:2], q[1:2]))):
        assert together[1].item() == pytest.approx(alone.item(), abs=1e-14)


def test_with_two_responses_the_jsd_is_that_of_two_coins():
    p, q = double([0.7, -0.4]), double([-1.0, 0.2])
    a, b = 1 / (1 + exp(-1.1)), 1 / (1 + exp(1.2))
    m = (a + b) / 2
    coin = 0.5 * (
        a * log(a / m) + (1 - a) * log((1 - a) / (1 - m)) + b * log(b / m) + (1 - b) * log((1 - b) / (1 - m))
    )
    assert jsd(p, q).item() == pytest.approx(coin, abs=1e-14)


@pytest.mark.parametrize("function", [kl, jsd], ids=["kl", "jsd"])
def test_divergence_gradients_pass_gradcheck_on_both_sides(function):
    p, q = (scores.requires_grad_() for scores in random_pair(3))
    assert torch.autograd.gradcheck(function, (p, q))


def test_log_prob_and_entropy_gradients_pass_gradcheck():
    p = random_pair(4)[0].requires_grad_()
    ranking = torch.tensor([[2, 0, 1, 3], [3, 2, 1, 0]])
    assert torch.autograd.gradcheck(lambda scores: log_prob(scores, ranking), (p,))
    assert torch.autograd.gradcheck(entropy, (p,))


EXTREME = {
    "far apart": ([1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]),
    "one-hot against ties": ([1e4, 0.0, -1e4], [0.0, 0.0, 0.0]),
    "ties": ([1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]),
    "single": ([1e4], [-1e4]),
}


@pytest.mark.parametrize(("p", "q"), EXTREME.values(), ids=EXTREME.keys())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_values_and_gradients(p, q, dtype):
    scores = [torch.tensor([row], dtype=dtype, requires_grad=True) for row in (p, q)]
    every = rankings(len(p)).unsqueeze(0)
    total = (
        kl(*scores) + jsd(*scores) + jsd(*scores, samples=8) + entropy(scores[0]) + log_prob(scores[0], every).sum()
    )
    assert total.dtype == torch.promote_types(dtype, torch.float32)
    total.sum().backward()
    assert total.isfinite().all()
    assert all(side.grad is not None and side.grad.isfinite().all() for side in scores)


def test_one_response_has_no_preference():
    p, q = double([3.0]), double([-2.0])
    for value in (entropy(p), kl(p, q), jsd(p, q), jsd(p, q, samples=4), log_prob(p, torch.tensor([[0]]))):
        assert value.item() == 0


def test_opposite_one_hot_sides_saturate_at_ln_2_in_float32():
    p, q = torch.tensor([[60.0, 30.0, 0.0]]), torch.tensor([[0.0, 30.0, 60.0]])
    assert jsd(p, q).item() == pytest.approx(log(2), abs=1e-6)
    assert jsd(p, q).item() <= log(2) + 1e-7


def standard_error_distance(estimates, exact):
    error = estimates.std(0) / len(estimates) ** 0.5
    return ((estimates.mean(0) - exact).abs() / error.clamp_min(1e-12)).max().item()


@pytest.mark.parametrize("scale", [0.5, 3.0], ids=["near", "nearly saturated"])
@pytest.mark.parametrize("samples", [2, 32])
def test_sampled_jsd_is_unbiased_in_value_and_gradient(scale, samples):
    p, q = random_pair(4, prompts=1, seed=3, scale=scale)
    exact_inputs = [side.clone().requires_grad_() for side in (p, q)]
    exact = jsd(*exact_inputs)
    exact_gradient = torch.cat(torch.autograd.grad(exact.sum(), exact_inputs), 1)
    repeated = [side.repeat(4000, 1).requires_grad_() for side in (p, q)]
    estimates = jsd(*repeated, samples, torch.Generator().manual_seed(1))
    gradients = torch.cat(torch.autograd.grad(estimates.sum(), repeated), 1)
    assert standard_error_distance(estimates.detach(), exact.detach()) < 3
    assert standard_error_distance(gradients, exact_gradient) < 3


def test_the_baseline_removes_gradient_noise_at_a_saturated_jsd():
    p, q = double([40.0, 20.0, 0.0, 0.0]), double([0.0, 0.0, 20.0, 40.0], grad=True)
    (gradient,) = torch.autograd.grad(jsd(p, q, samples=64).sum(), q)
    assert gradient.abs().max().item() < 1e-6


def test_sampled_jsd_is_reproducible_with_a_generator():
    p, q = random_pair(12)
    first, second = (jsd(p, q, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert ((first > 0) & (first < log(2))).all()


def test_kl_of_twelve_responses_equals_its_own_sampled_mean():
    p, q = random_pair(12, prompts=1)
    gumbel = (
        -torch.empty(20000, 12, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(0)).log()
    )
    drawn = (p + gumbel).argsort(-1, descending=True).unsqueeze(0)
    log_ratio = (log_prob(p, drawn) - log_prob(q, drawn))[0]
    assert standard_error_distance(log_ratio, kl(p, q)) < 3


def test_sixteen_tied_responses_have_entropy_ln_16_factorial():
    assert entropy(torch.zeros(1, 16, dtype=torch.float64)).item() == pytest.approx(log(factorial(16)), abs=1e-9)


def test_tables_made_in_inference_mode_still_serve_training():
    with torch.inference_mode():
        kl(torch.zeros(1, 7), torch.zeros(1, 7))
        jsd(torch.zeros(1, 7), torch.zeros(1, 7))
    q = torch.ones(1, 7, requires_grad=True)
    (kl(torch.zeros(1, 7), q) + jsd(torch.zeros(1, 7), q)).sum().backward()


@pytest.mark.parametrize("function", [entropy, lambda s: kl(s, s)], ids=["entropy", "kl"])
def test_more_than_sixteen_responses_are_refused(function):
    with pytest.raises(ValueError, match="at most 16"):
        function(torch.zeros(1, MAX_EXACT + 1))


@pytest.mark.parametrize("bad", [nan, inf, -inf, 3e38])
def test_non_finite_scores_and_differences_are_refused(bad):
    scores = torch.tensor([[bad, -3e38 if bad == 3e38 else 0.0]])
    fine = torch.zeros(1, 2)
    for call in (lambda: entropy(scores), lambda: kl(fine, scores), lambda: jsd(scores, fine)):
        with pytest.raises(ValueError, match="finite"):
            call()


def test_wrong_shapes_are_refused():
    pair = torch.zeros(1, 2)
    for call in (
        lambda: entropy(torch.zeros(3)),
        lambda: entropy(torch.zeros(2, 0)),
        lambda: kl(pair, torch.zeros(1, 3)),
        lambda: jsd(pair, torch.zeros(2, 2)),
        lambda: jsd(pair, pair, samples=3),
        lambda: entropy(torch.zeros(1, 2, dtype=torch.int64)),
        lambda: log_prob(pair, torch.tensor([[0, 0]])),
        lambda: log_prob(pair, torch.tensor([[0.0, 1.0]])),
        lambda: log_prob(pair, torch.tensor([0, 1])),
        lambda: rankings(9),
    ):
        with pytest.raises(ValueError, match=r"must|can be"):
            call()
