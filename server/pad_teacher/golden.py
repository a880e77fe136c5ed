"""The golden score: before the service is ready, its numbers must agree with a slow and plain computation."""

import numpy as np

from pad_teacher.engine import TokenSet
from pad_teacher.teacher import Teacher

# Short and long, finished and cut, one word and several lines: what the fast path treats differently.
PROMPTS = ("Name three colours.", "Explain in two sentences why the sky is blue, and then say what you are sure of.")
RESPONSES = (
    ("Red, green and blue.", True),
    ("no", True),
    ("Sunlight is scattered by the air.\n\nShort waves are scattered most, which our eyes see as", False),
)

# Rounding of 16-bit weights and activations depends on how rows are batched; float32's does not show.
TOLERANCE_NATS = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}


class GoldenMismatch(RuntimeError):
    """The engine's numbers are not the model's: nothing it scores may be used."""


def check(teacher: Teacher) -> float:
    """Score two sets together and compare each token with the engine's reference.

    Returns:
        The largest difference of a response's mean log-likelihood, in nats.

    Raises:
        GoldenMismatch: where a value is not finite or differs by more than the dtype allows.
    """
    texts, finished = [text for text, _ in RESPONSES], [done for _, done in RESPONSES]
    responses = teacher.encoder.response_ids(texts, finished)
    sets = [TokenSet(teacher.encoder.prompt_ids(prompt), responses) for prompt in PROMPTS]
    worst = 0.0
    for item, scored in zip(sets, teacher.engine.token_logprobs(sets), strict=True):
        for ids, log_probs in zip(item.response_ids, scored, strict=True):
            reference = teacher.engine.reference_logprobs(item.prompt_ids, ids)
            if len(log_probs) != len(ids) or not np.isfinite(log_probs).all() or not np.isfinite(reference).all():
                raise GoldenMismatch("the engine gave a log-probability that is missing or not finite")
            worst = max(worst, float(abs(log_probs.mean() - reference.mean())))
    allowed = TOLERANCE_NATS.get(teacher.engine.dtype, 1e-3)
    if worst > allowed:
        raise GoldenMismatch(
            f"golden score: the engine differs from the model's own logits by {worst:.3g} nats a token"
            f" (allowed for {teacher.engine.dtype}: {allowed}); this architecture may change its logits in a way"
            " that the engine does not know"
        )
    return worst
