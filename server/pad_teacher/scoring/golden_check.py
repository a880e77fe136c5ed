"""The golden check: before the service is ready, its numbers must agree with a slow and plain computation."""

from collections.abc import Sequence

import numpy as np

from pad_teacher.engines.queries import FloatArray, TokenSet
from pad_teacher.errors import TeacherError
from pad_teacher.scoring.teacher import Teacher

# Short and long, finished and cut, one word and several lines: cases that the fast path treats differently.
PROMPTS = ("Name three colours.", "Explain in two sentences why the sky is blue, and then say what you are sure of.")
RESPONSES = (
    ("Red, green and blue.", True),
    ("no", True),
    ("Sunlight is scattered by the air.\n\nShort waves are scattered most, which our eyes see as", False),
)

LONG_TOKENS = 600  # more positions than one chunk of the projection

# By dtype: for one token, and for the mean over all tokens. Rounding errors of 16-bit numbers are large on one token
# and cancel over many.
TOLERANCE_NATS = {"float32": (1e-3, 1e-4), "float16": (0.2, 0.02), "bfloat16": (1.0, 0.05)}


class GoldenMismatch(TeacherError):
    """The engine's numbers are not the model's: nothing it scores may be used."""


def check(teacher: Teacher) -> float:
    """Score two sets together, and option letters after their prompts, and compare with the engine's reference.

    Returns:
        The largest difference of one token's log-probability, in nats.

    Raises:
        GoldenMismatch: if a value is missing, not finite, or differs by more than the dtype allows.
    """
    encoder, engine = teacher.encoder, teacher.engine
    responses = encoder.response_ids([text for text, _ in RESPONSES], [done for _, done in RESPONSES])
    sets = [TokenSet(encoder.prompt_ids(prompt), responses) for prompt in PROMPTS]
    room = min(LONG_TOKENS, engine.max_context_tokens - len(sets[0].prompt_ids))
    sets.append(TokenSet(sets[0].prompt_ids, [(responses[-1] * LONG_TOKENS)[:room]]))
    pairs: list[tuple[FloatArray, FloatArray]] = []
    for item, scored in zip(sets, engine.token_logprobs(sets), strict=True):
        for ids, log_probs in zip(item.response_ids, scored, strict=True):
            pairs.append((log_probs, engine.reference_logprobs(item.prompt_ids, ids)))
    labels = teacher.letter_ids[:2]
    options = [text for text, _ in RESPONSES[:2]]
    prompts = [teacher.question_ids(prompt, options) for prompt in PROMPTS]
    for prompt_ids, log_probs in zip(prompts, engine.label_logprobs(prompts, [labels] * 2), strict=True):
        reference = [engine.reference_logprobs(prompt_ids, [label]) for label in labels]
        pairs.append((log_probs, np.concatenate(reference)))
    return _compare(pairs, engine.dtype)


def _compare(pairs: Sequence[tuple[FloatArray, FloatArray]], dtype: str) -> float:
    if any(ours.shape != reference.shape or not np.isfinite([*ours, *reference]).all() for ours, reference in pairs):
        raise GoldenMismatch("the engine gave a log-probability that is missing or not finite")
    differences = np.concatenate([ours.astype(np.float64) - reference for ours, reference in pairs])
    worst, mean = float(abs(differences).max()), abs(float(differences.mean()))
    most, most_mean = TOLERANCE_NATS.get(dtype, TOLERANCE_NATS["float32"])
    if worst > most or mean > most_mean:
        raise GoldenMismatch(
            f"golden score: the engine differs from the model's own logits by up to {worst:.3g} nats a token and"
            f" {mean:.3g} on average (allowed for {dtype}: {most} and {most_mean}); this architecture may change its"
            " logits in a way that the engine does not know"
        )
    return worst
