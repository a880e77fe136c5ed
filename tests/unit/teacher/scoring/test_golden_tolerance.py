"""The golden check's bounds follow the dtype's rounding, in terms of the preferences that the numbers decide."""

import numpy as np
import pytest

from pad_teacher.engines.queries import FloatArray
from pad_teacher.scoring.golden_check import GoldenMismatch, compare, tolerance_nats

BETA = 10  # the paper's beta_teacher
TOKENS = 664  # as many as the check has for a real model


def off_by(bias: float, noise: float) -> list[tuple[FloatArray, FloatArray]]:
    reference = np.full(TOKENS, -2.0, np.float32)
    errors = bias + noise * np.random.default_rng(0).standard_normal(TOKENS)
    return [((reference + errors).astype(np.float32), reference)]


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_bounds_of_16_bits_are_multiples_of_its_rounding(dtype: str, bits: int) -> None:
    most, most_mean = tolerance_nats(dtype)
    assert (most * 2**bits, most_mean * 2**bits) == (256, 4)
    assert BETA * most_mean < 0.2


def test_an_unknown_dtype_has_the_bounds_of_float32() -> None:
    assert tolerance_nats("float8") == tolerance_nats("float32") == (1e-3, 1e-4)


def test_rounding_of_a_real_model_in_bfloat16_passes() -> None:
    """SmolLM2-135M on a CPU: a standard deviation of 0.04 nats, a mean of 0.0023."""
    assert compare(off_by(0.0023, 0.04), "bfloat16") < 0.3


def test_a_bias_that_would_move_preferences_is_refused() -> None:
    with pytest.raises(GoldenMismatch, match=r"0.03 on average \(allowed for bfloat16: 1 and 0.0156\)"):
        compare(off_by(0.03, 0.0), "bfloat16")


def test_half_precision_is_held_to_more_than_bfloat16() -> None:
    with pytest.raises(GoldenMismatch, match=r"allowed for float16: 0\.125 and 0\.00195"):
        compare(off_by(0.004, 0.0), "float16")
    compare(off_by(0.004, 0.0), "bfloat16")
