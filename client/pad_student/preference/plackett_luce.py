"""Plackett-Luce distributions over rankings: log-probability, entropy, KL and Jensen-Shannon divergence.

P(τ) = Π_k exp(s(τ_k)) / Σ_{l≥k} exp(s(τ_l)), scores s = β·reward (PAD, arXiv 2502.14272; Plackett 1975, Luce 1959).
Every function takes scores [P, N], works in float32 or, given float64, in that, and returns nats.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import permutations
from math import log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.quasirandom import SobolEngine

# Axes: P prompts · N responses · R rankings · J pairs of rankings, R = 2J · C sets of responses, all of one size ·
# M responses of such a set, or the choices along a ranking but the last · A arrivals at a set from those one larger.

MAX_ENUMERATED = 8  # 8! = 40,320 rankings a prompt
MAX_EXACT = 16  # 2^16 sets of responses a prompt
MAX_SAMPLED = 64  # the largest n that the estimates are tested with
DEFAULT_SAMPLES = 256

LogRatioFunction = Callable[[Tensor], Tensor]


def log_prob(scores: Tensor, ranking: Tensor) -> Tensor:
    """Log-probability of rankings.

    Args:
        scores: [P, N].
        ranking: integers [P, N] or [P, R, N], each row a permutation of 0..N-1, best first.

    Returns:
        [P] or [P, R], in nats.

    Raises:
        ValueError: for wrong shapes, non-finite scores, or a row that is no permutation.

    """
    scores_P_N = _checked(scores)
    P, n = scores_P_N.shape
    if ranking.ndim not in (2, 3) or ranking.shape[0] != P or ranking.shape[-1] != n:
        raise ValueError(f"ranking must be [{P}, {n}] or [{P}, R, {n}], got {list(ranking.shape)}")
    if ranking.is_floating_point() or not _are_permutations(ranking):
        raise ValueError(f"each ranking must hold the integers 0..{n - 1} once each, best first")
    if ranking.ndim == 2:
        return _log_prob(scores_P_N, ranking.long().unsqueeze(1)).squeeze(1)
    return _log_prob(scores_P_N, ranking.long())


def rankings(n: int) -> Tensor:
    """All rankings of ``n`` responses, int64 [R, N], R = N!, in lexicographic order.

    Raises:
        ValueError: for n below 1 or above ``MAX_ENUMERATED``.
    """
    if not 1 <= n <= MAX_ENUMERATED:
        raise ValueError(f"rankings can be enumerated for 1 to {MAX_ENUMERATED} responses, got {n}")
    return _rankings(n, torch.device("cpu")).clone()


def entropy(scores: Tensor) -> Tensor:
    """Exact entropy over rankings, [P], between 0 and ln n!.

    Raises:
        ValueError: for n > ``MAX_EXACT``, wrong shapes or non-finite scores.

    """

    def choice_entropy(log_p_P_C_M: Tensor, _: Tensor) -> Tensor:
        return -(log_p_P_C_M.exp() * log_p_P_C_M).sum(-1)

    return _sum_over_remaining(_checked(scores), choice_entropy)


@torch.no_grad()
def estimated_entropy(scores: Tensor, samples: int = DEFAULT_SAMPLES) -> Tensor:
    """Estimate of the entropy over rankings, [P], for any number of responses; without a gradient.

    A ranking is drawn by choosing again and again among what remains, so the chain rule gives H(P) = E[Σ_k H(p_k)],
    H(p_k) the entropy of the k-th choice along a ranking drawn from P. Each H(p_k) is exact, so the mean over
    rankings varies far less than -ln P(τ) does: not at all if all scores are equal. With the default number the
    error is below half a per cent of ln n!.

    The rankings are drawn with noise that is always the same: the same scores, in any order and in any batch, give
    the same estimate, and no random state is read or changed.

    Args:
        scores: [P, N].
        samples: rankings drawn a prompt.

    Raises:
        ValueError: for wrong shapes, non-finite scores or no samples.

    """
    scores_P_N = _checked(scores).sort(dim=1, descending=True).values
    if samples < 1:
        raise ValueError(f"samples must be positive, got {samples}")
    noise_R_N = _fixed_noise(samples, scores_P_N.shape[1], scores_P_N.device).to(scores_P_N.dtype)
    ranking_P_R_N = (scores_P_N.unsqueeze(1) + noise_R_N).argsort(dim=-1, descending=True)
    return _choice_entropies(scores_P_N, ranking_P_R_N).sum(-1).mean(-1)


def kl(scores_p: Tensor, scores_q: Tensor) -> Tensor:
    """Exact KL(P‖Q) over rankings, [P], in O(n·2^n).

    A ranking is drawn by choosing again and again among what remains, so the chain rule gives
    KL(P‖Q) = Σ_R f(R)·KL(p_R‖q_R), with f(R) the probability that R is what remains at some stage under P.

    Raises:
        ValueError: for n > ``MAX_EXACT``, wrong or differing shapes, or non-finite scores.

    """
    scores_p_P_N, scores_q_P_N = _checked_pair(scores_p, scores_q)

    def choice_kl(log_p_P_C_M: Tensor, members_C_M: Tensor) -> Tensor:
        log_q_P_C_M = _gather_sets(scores_q_P_N, members_C_M).log_softmax(-1)
        return (log_p_P_C_M.exp() * (log_p_P_C_M - log_q_P_C_M)).sum(-1)

    return _sum_over_remaining(scores_p_P_N, choice_kl)


def jsd(
    scores_p: Tensor, scores_q: Tensor, samples: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Jensen-Shannon divergence over rankings, [P], in [0, ln 2]; see ``mixture_mean`` for the arguments.

    With d = ln P/Q and M = ½(P+Q) it is E_M[ln 2 - H(σ(d))], H the entropy of a coin: each term lies in [0, ln 2].
    """

    def coin_information(d: Tensor) -> Tensor:
        return d.sigmoid() * logsigmoid(d) + (-d).sigmoid() * logsigmoid(-d) + log(2)

    value_P = mixture_mean(scores_p, scores_q, coin_information, samples, generator)
    # Rounding may carry the sum a hair outside its range; clamping the value alone leaves the gradient whole.
    return value_P + (value_P.clamp(0.0, log(2)) - value_P).detach()


def mixture_mean(
    scores_p: Tensor,
    scores_q: Tensor,
    function: LogRatioFunction,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """E_M[function(ln P(τ)/Q(τ))] over the mixture M = ½(P+Q), [P], differentiable in both scores.

    Args:
        scores_p: [P, N].
        scores_q: [P, N].
        function: of the log-ratio, elementwise.
        samples: rankings to draw a prompt, even; by default all n! are summed up to ``MAX_ENUMERATED``
            responses, and ``DEFAULT_SAMPLES`` drawn above.
        generator: on the scores' device, for the draws.

    Raises:
        ValueError: for wrong or differing shapes, non-finite scores, or samples not positive and even.

    """
    scores_p_P_N, scores_q_P_N = _checked_pair(scores_p, scores_q)
    P, n = scores_p_P_N.shape
    if samples is None and n <= MAX_ENUMERATED:
        ranking_P_R_N = _rankings(n, scores_p_P_N.device).expand(P, -1, -1)
        log_m_P_R, d_P_R = _log_mixture_and_ratio(scores_p_P_N, scores_q_P_N, ranking_P_R_N)
        return (log_m_P_R.exp() * function(d_P_R)).sum(-1)
    samples = DEFAULT_SAMPLES if samples is None else samples
    if samples < 2 or samples % 2:
        raise ValueError(f"samples must be positive and even, half for each side, got {samples}")
    ranking_P_R_N = _draw_from_both(scores_p_P_N, scores_q_P_N, samples // 2, generator)
    log_m_P_R, d_P_R = _log_mixture_and_ratio(scores_p_P_N, scores_q_P_N, ranking_P_R_N)
    return _score_function_mean(log_m_P_R, function(d_P_R))


def _score_function_mean(log_m_P_R: Tensor, value_P_R: Tensor) -> Tensor:
    """Mean of values at rankings drawn from M, whose gradient is unbiased for that of Σ_τ M(τ)·value(τ).

    That gradient is E_M[∇value + value·∇ln M]; the weight, 1 in value, adds the second term. For the JSD
    the two sum to ½·w·ln w·∇ln Q with w = Q/M ≤ 2, so they are bounded. As E_M[∇ln M] = 0, any baseline that does
    not depend on the draw may be taken off. Only a pair of draws, one from each side, follows M as a
    whole, so the baseline of a pair is the mean over the other pairs.
    """
    weight_P_R = (log_m_P_R - log_m_P_R.detach()).exp()
    pairs = value_P_R.shape[-1] // 2
    pair_mean_P_J = value_P_R.detach().view(-1, 2, pairs).mean(1)
    others_P_J = (pair_mean_P_J.sum(-1, keepdim=True) - pair_mean_P_J) / max(pairs - 1, 1)
    # At weight 1 the last term is 0, exactly: the baseline moves the gradient and never the value.
    return (weight_P_R * value_P_R - (weight_P_R - 1) * others_P_J.repeat(1, 2)).mean(-1)


@torch.no_grad()
def _draw_from_both(
    scores_p_P_N: Tensor, scores_q_P_N: Tensor, pairs: int, generator: torch.Generator | None
) -> Tensor:
    """Rankings [P, R, N], the first half from P, the second from Q, by sorting scores plus Gumbel noise.

    Both halves share their noise, so exchanging P and Q exchanges the halves and nothing else.
    """
    P, n = scores_p_P_N.shape
    noise_P_J_N = -scores_p_P_N.new_empty(P, pairs, n).exponential_(generator=generator).log()
    noisy_P_R_N = torch.cat([scores_p_P_N.unsqueeze(1) + noise_P_J_N, scores_q_P_N.unsqueeze(1) + noise_P_J_N], 1)
    return noisy_P_R_N.argsort(dim=-1, descending=True)


def _log_mixture_and_ratio(
    scores_p_P_N: Tensor, scores_q_P_N: Tensor, ranking_P_R_N: Tensor
) -> tuple[Tensor, Tensor]:
    log_p_P_R = _log_prob(scores_p_P_N, ranking_P_R_N)
    log_q_P_R = _log_prob(scores_q_P_N, ranking_P_R_N)
    return torch.logaddexp(log_p_P_R, log_q_P_R) - log(2), log_p_P_R - log_q_P_R


def _log_prob(scores_P_N: Tensor, ranking_P_R_N: Tensor) -> Tensor:
    n = ranking_P_R_N.shape[-1]
    ranked_P_R_N = scores_P_N.unsqueeze(1).expand(-1, ranking_P_R_N.shape[1], -1).gather(2, ranking_P_R_N)
    remaining_P_R = ranked_P_R_N[..., n - 1]
    total_P_R = ranked_P_R_N[..., n - 1] - remaining_P_R
    # Pairwise logaddexp keeps the gradient accurate if one score dwarfs another; logcumsumexp's does not.
    for k in reversed(range(n - 1)):
        remaining_P_R = torch.logaddexp(remaining_P_R, ranked_P_R_N[..., k])
        total_P_R = total_P_R + (ranked_P_R_N[..., k] - remaining_P_R)
    return total_P_R


def _choice_entropies(scores_P_N: Tensor, ranking_P_R_N: Tensor) -> Tensor:
    """Entropy of each choice along the rankings but the last, which leaves none, [P, R, M]; from the last back.

    To choose from {i} ∪ R is to choose between i and R, then within R: H = h(w) + w·H(p_R), h the entropy of a coin
    and w the share of R. All terms are positive, so nothing cancels if one score dwarfs another.
    """
    ranked_P_R_N = scores_P_N.unsqueeze(1).expand(-1, ranking_P_R_N.shape[1], -1).gather(2, ranking_P_R_N)
    log_total_P_R_N = ranked_P_R_N.flip(-1).logcumsumexp(-1)
    d_P_R_M = log_total_P_R_N[..., :-1] - ranked_P_R_N[..., :-1].flip(-1)
    log_rest, log_first = logsigmoid(d_P_R_M), logsigmoid(-d_P_R_M)
    coin_P_R_M = -(log_rest.exp() * log_rest + log_first.exp() * log_first)
    # H_k·Z_k = H_{k+1}·Z_{k+1} + h_k·Z_k is a running sum, taken in logarithms.
    log_sums_P_R_M = (coin_P_R_M.log() + log_total_P_R_N[..., 1:]).logcumsumexp(-1)
    return (log_sums_P_R_M - log_total_P_R_N[..., 1:]).exp()


@lru_cache(maxsize=4 * MAX_SAMPLED)
def _fixed_noise(samples: int, n: int, device: torch.device) -> Tensor:
    """Gumbel noise [R, N], the same in every process: scrambled Sobol points halve the error of random ones."""
    with torch.inference_mode(False):
        uniform_R_N = SobolEngine(n, scramble=True, seed=0).draw(samples, dtype=torch.float64)
        return -(-uniform_R_N.clamp(1e-9, 1 - 1e-9).log()).log().to(device)


@lru_cache(maxsize=4 * MAX_ENUMERATED)
def _rankings(n: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # cached: a tensor born in inference mode could not serve training later
        return torch.tensor(list(permutations(range(n))), device=device)


@lru_cache(maxsize=4 * MAX_EXACT)
def _layers(n: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For m = n..1, the sets of m responses and the arrivals at the sets of m-1 that one choice leaves.

    Members are [C, M], M = m. Arrivals are [C, A], with C the sets of m-1 and A = n-m+1; each is an index into
    (set of m, member chosen), flattened to C·M.
    """
    with torch.inference_mode(False):
        bits_C_N = (torch.arange(2**n).unsqueeze(1) >> torch.arange(n)) & 1
        size_C = bits_C_N.sum(1)
        layers = [_layer(bits_C_N[size_C == m], m) for m in range(n, 0, -1)]
        return [(members_C_M.to(device), arrivals_C_A.to(device)) for members_C_M, arrivals_C_A in layers]


def _layer(bits_C_N: Tensor, m: int) -> tuple[Tensor, Tensor]:
    n = bits_C_N.shape[1]
    members_C_M = bits_C_N.nonzero()[:, 1].view(-1, m)
    code_C = (bits_C_N << torch.arange(n)).sum(1)
    left_C_M = code_C.unsqueeze(1) - (1 << members_C_M)
    # Each set of m-1 is reached n-m+1 times, so sorting by what is left groups its arrivals, in code order.
    return members_C_M, left_C_M.flatten().argsort(stable=True).view(-1, n - m + 1)


def _sum_over_remaining(scores_P_N: Tensor, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Σ_R f(R)·term(log p_R, R) by f(all) = 1, f(R∖{i}) += f(R)·p_R(i), all sets of one size at a time."""
    n = scores_P_N.shape[1]
    if n > MAX_EXACT:
        raise ValueError(f"exact sums over rankings take at most {MAX_EXACT} responses, got {n}")
    total_P = torch.zeros_like(scores_P_N[:, 0])
    reach_P_C = torch.ones_like(scores_P_N[:, :1])
    for members_C_M, arrivals_C_A in _layers(n, scores_P_N.device):
        log_p_P_C_M = _gather_sets(scores_P_N, members_C_M).log_softmax(-1)
        total_P = total_P + (reach_P_C * term(log_p_P_C_M, members_C_M)).sum(-1)
        flow_P_CM = (reach_P_C.unsqueeze(-1) * log_p_P_C_M.exp()).flatten(1)
        reach_P_C = _gather_sets(flow_P_CM, arrivals_C_A).sum(-1)
    return total_P


def _gather_sets(values_P_N: Tensor, index_C_M: Tensor) -> Tensor:
    return values_P_N.index_select(1, index_C_M.flatten()).view(-1, *index_C_M.shape)


def _are_permutations(ranking: Tensor) -> bool:
    return bool((ranking.sort(-1).values == torch.arange(ranking.shape[-1], device=ranking.device)).all())


def _checked(scores: Tensor) -> Tensor:
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be [prompts, n] with at least one of each, got {list(scores.shape)}")
    if not scores.is_floating_point():
        raise ValueError(f"scores must be floating point, got {scores.dtype}")
    scores_P_N = scores.to(torch.promote_types(scores.dtype, torch.float32))
    # Differences are what counts, and those of finite scores can still overflow.
    if not (scores_P_N - scores_P_N.amax(1, keepdim=True)).isfinite().all():
        raise ValueError("scores must be finite, and so must their differences")
    return scores_P_N


def _checked_pair(scores_p: Tensor, scores_q: Tensor) -> tuple[Tensor, Tensor]:
    if scores_p.shape != scores_q.shape:
        raise ValueError(f"both scores must have one shape, got {list(scores_p.shape)} and {list(scores_q.shape)}")
    scores_p_P_N, scores_q_P_N = _checked(scores_p), _checked(scores_q)
    dtype = torch.promote_types(scores_p_P_N.dtype, scores_q_P_N.dtype)
    return scores_p_P_N.to(dtype), scores_q_P_N.to(dtype)
