"""The golden check: before the service is ready, its numbers must agree with a slow and plain computation."""

from collections.abc import Callable, Sequence

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

# Rounding of 16-bit numbers is large on one token and cancels over many. The bounds follow the dtype's relative
# rounding. The mean's is 0.016 nats a token in bfloat16: at beta_teacher 10 it moves a preference by 0.16 nats.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
TOKEN_ROUNDINGS, MEAN_ROUNDINGS = 256, 4
# In float32 the order of sums counts for more than one rounding.
FLOAT32_NATS = (1e-3, 1e-4)


def tolerance_nats(dtype: str) -> tuple[float, float]:
    """The most that an engine may differ from the model's own logits: for one token, and for the mean over all."""
    if dtype not in ROUNDING:
        return FLOAT32_NATS
    return TOKEN_ROUNDINGS * ROUNDING[dtype], MEAN_ROUNDINGS * ROUNDING[dtype]


class GoldenMismatch(TeacherError):
    """The engine's numbers are not the model's: nothing it scores may be used."""


def check(teacher: Teacher, say: Callable[[str], None] = lambda _: None) -> float:
    """Score two sets together, and option letters after their prompts, and compare with the engine's reference.

    Args:
        teacher: with its engine.
        say: receives the number of the set or question that is compared, as in ``2/5``.

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
    count = len(sets) + len(PROMPTS)
    for number, (item, scored) in enumerate(zip(sets, engine.token_logprobs(sets), strict=True), 1):
        say(f"{number}/{count}")
        for ids, log_probs in zip(item.response_ids, scored, strict=True):
            pairs.append((log_probs, engine.reference_logprobs(item.prompt_ids, ids)))
    labels = teacher.letter_ids[:2]
    options = [text for text, _ in RESPONSES[:2]]
    prompts = [teacher.question_ids(prompt, options) for prompt in PROMPTS]
    chosen = zip(prompts, engine.label_logprobs(prompts, [labels] * 2), strict=True)
    for number, (prompt_ids, log_probs) in enumerate(chosen, len(sets) + 1):
        say(f"{number}/{count}")
        pairs.append((log_probs, engine.reference_label_logprobs(prompt_ids, labels)))
    return compare(pairs, engine.dtype)


def compare(pairs: Sequence[tuple[FloatArray, FloatArray]], dtype: str) -> float:
    """The largest difference between the engine's numbers and the reference's, in nats.

    Raises:
        GoldenMismatch: as in ``check``.
    """
    if any(ours.shape != reference.shape or not np.isfinite([*ours, *reference]).all() for ours, reference in pairs):
        raise GoldenMismatch("the engine gave a log-probability that is missing or not finite")
    differences = np.concatenate([ours.astype(np.float64) - reference for ours, reference in pairs])
    worst, mean = float(abs(differences).max()), abs(float(differences.mean()))
    most, most_mean = tolerance_nats(dtype)
    if worst > most or mean > most_mean:
        raise GoldenMismatch(
            f"golden score: the engine differs from the model's own logits by up to {worst:.3g} nats a token and"
            f" {mean:.3g} on average (allowed for {dtype}: {most:.3g} and {most_mean:.3g}); this architecture may"
            " change its logits in a way that the engine does not know"
        )
    return worst
