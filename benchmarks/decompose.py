"""Preference decomposing: the cost of each split of n responses into parts, and the share of the comparison kept.

    python -m benchmarks.decompose

Costs are of one prompt. Tokens are counted by the service's own functions, for responses of equal length. Only the
loss's milliseconds and the kept shares are measured. Fixed and on-policy parts cost the same tokens.
Writes results/decompose.json. Axes: P prompts · N responses · R rankings.
"""

import json
from math import log, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.harness.environment import RESULTS, now
from benchmarks.harness.losses import loss_seconds
from pad_student.preference.losses import LOSSES
from pad_student.preference.plackett_luce import log_prob
from pad_teacher.engines.queries import Questions, TokenSet
from pad_teacher.scoring.questions import question_orders
from pad_wire.scoring import LETTERS, Form

PROMPT, RESPONSE = 256, 128
BEFORE, AFTER = 20, 13  # tokens of a question before its options, apart from the request, and after them
QUEUE = 1_000_000  # the service's default --max-queued-tokens; all questions of a set must fit
SIZES = (4, 8, 16, 32, 64)

# Of β·reward within a set, as in the demo's first step: medians of the standard deviations, and the correlation that
# gives its agreement on pairs, 77 %.
TEACHER_SPREAD, STUDENT_SPREAD, CORRELATION = 3.4, 1.5, 0.75
SETS = 64
RANKINGS = 1024  # for the gradient over the whole set


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    result = {
        "command": "python -m benchmarks.decompose",
        "date": now(),
        "prompt": PROMPT,
        "response": RESPONSE,
        "teacher_spread": TEACHER_SPREAD,
        "student_spread": STUDENT_SPREAD,
        "correlation": CORRELATION,
        "sets": SETS,
        "rows": [row for n in SIZES for row in rows_of(n)],
    }
    (RESULTS / "decompose.json").write_text(json.dumps(result, indent=2) + "\n")
    for row in result["rows"]:
        print("  ".join(f"{value:.3f}" if isinstance(value, float) else f"{value}" for value in row.values()))


def rows_of(n: int) -> list[dict[str, Any]]:
    """One row for each number of parts: powers of two, with at least two responses a part."""
    teacher_P_N, student_P_N = made_up_scores(n)
    parts_of_n = [2**k for k in range(n.bit_length()) if n // 2**k >= 2]
    return [costs(n, parts) | kept(teacher_P_N, student_P_N, parts) for parts in parts_of_n]


def costs(n: int, parts: int) -> dict[str, Any]:
    """Costs of one prompt, summed over its parts: teacher and student tokens, steps, and milliseconds of the loss."""
    size = n // parts
    seconds = loss_seconds("ppd", size)
    return {
        "n": n,
        "parts": parts,
        "size": size,
        "teacher_tokens_likelihood": parts * likelihood_tokens(size),
        "teacher_tokens_listwise": _times(parts, teacher_tokens(size, "listwise")),
        "teacher_tokens_pairwise": _times(parts, teacher_tokens(size, "pairwise")),
        "student_tokens": parts * (PROMPT + size * RESPONSE),
        "steps": parts,
        "loss_ms": 1e3 * parts * seconds,
    }


def teacher_tokens(size: int, form: Form) -> int | None:
    """Tokens of one part's likelihoods and questions in all cyclic orders. None if a default service refuses them.

    Questions of a unit are scored together, so a shared prefix of neighbouring questions counts once.
    """
    if form == "listwise" and size > len(LETTERS):
        return None
    request, options = list(range(PROMPT + BEFORE)), [_ids(k + 1, RESPONSE) for k in range(size)]
    asked = [
        request + [token for option in order for token in options[option]] + _ids(0, AFTER)
        for order in question_orders(size, form, "cyclic")
    ]
    if sum(map(len, asked)) > QUEUE:
        return None
    return likelihood_tokens(size) + Questions(asked, []).cost


def likelihood_tokens(size: int) -> int:
    """Tokens of one part's likelihoods; the prompt counts once."""
    return TokenSet(list(range(PROMPT)), [_ids(k, RESPONSE) for k in range(size)]).cost


def made_up_scores(n: int) -> tuple[Tensor, Tensor]:
    """Random β·rewards of teacher and student, each [P, N]."""
    teacher_P_N = torch.randn(SETS, n, dtype=torch.float64)
    own_P_N = torch.randn(SETS, n, dtype=torch.float64)
    student_P_N = CORRELATION * teacher_P_N + sqrt(1 - CORRELATION**2) * own_P_N
    return TEACHER_SPREAD * teacher_P_N, STUDENT_SPREAD * student_P_N


def kept(teacher_P_N: Tensor, student_P_N: Tensor, parts: int) -> dict[str, float]:
    """The shares of the comparison of all n responses that the parts keep.

    - ``pairs``: the share of pairs whose responses are in the same part.
    - ``of_ceiling``: the mean loss of a part over ln 2, the ceiling of a JSD, where it is flat.
    - ``direction``: the cosine between the sum of the parts' gradients in the student's scores and the gradient of
      KL(P_T‖P_S) over the whole set. The JSD of the whole set is no reference: for large n it is at its ceiling and
      has no gradient.
    """
    n = teacher_P_N.shape[1]
    whole_P_N = whole_gradient(teacher_P_N, student_P_N)
    found: dict[str, float] = {"pairs": (n // parts - 1) / (n - 1)}
    for name in ("ppd", "vpd"):
        gradient_P_N = torch.zeros_like(student_P_N)
        values = []
        for part in range(parts):
            own = student_P_N[:, part::parts].clone().requires_grad_()
            value_P = LOSSES[name](teacher_P_N[:, part::parts], own)
            value_P.sum().backward()
            gradient_P_N[:, part::parts] = own.grad  # type: ignore[index]
            values.append(value_P.mean().item())
        if name == "ppd":
            found["of_ceiling"] = sum(values) / parts / log(2)
            found["gradient_norm"] = gradient_P_N.norm(dim=1).mean().item()
        direction = "direction" if name == "ppd" else f"direction_{name}"
        found[direction] = cosine_similarity(gradient_P_N, whole_P_N, dim=1).mean().item()
    return found


def whole_gradient(teacher_P_N: Tensor, student_P_N: Tensor) -> Tensor:
    """Gradient of KL(P_T‖P_S) in the student's scores, [P, N], estimated from rankings drawn from P_T."""
    own_P_N = student_P_N.clone().requires_grad_()
    noise_P_R_N = -torch.empty(SETS, RANKINGS, teacher_P_N.shape[1], dtype=torch.float64).exponential_().log()
    ranking_P_R_N = (teacher_P_N.unsqueeze(1) + noise_P_R_N).argsort(-1, descending=True)
    (-log_prob(own_P_N, ranking_P_R_N).mean(-1)).sum().backward()
    return own_P_N.grad  # type: ignore[return-value]


def _ids(start: int, count: int) -> list[int]:
    """Token ids that share no prefix with those of another ``start``."""
    return [10**6 * (start + 1) + k for k in range(count)]


def _times(parts: int, tokens: int | None) -> int | None:
    return None if tokens is None else parts * tokens


if __name__ == "__main__":
    main()
