"""Needs a CUDA device: ``make test-gpu``. The same promises as on the CPU, for the dtypes that GPUs serve."""

import pytest
import torch

from pad_teacher.engines.embedded.engine import TransformersEngine
from pad_teacher.engines.queries import TokenSet
from pad_teacher.scoring import golden_check
from pad_teacher.scoring.teacher import Teacher
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.tiny import ARCHITECTURES, oracle, tiny_model

SETS = [TokenSet(list(range(40, 60)), [list(range(70, 80)), [90]]), TokenSet([100], [[110, 120]])]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
def test_token_logprobs_on_a_gpu_equal_float64(architecture: str, dtype: torch.dtype, tolerance: float) -> None:
    exact = tiny_model(architecture)
    engine = TransformersEngine(tiny_model(architecture).to("cuda", dtype))
    assert engine.plain_because is None  # the prompt of each set runs once
    for item, arrays in zip(SETS, engine.token_logprobs(SETS), strict=True):
        for ids, values in zip(item.response_ids, arrays, strict=True):
            expected = torch.tensor(oracle(exact, item.prompt_ids, ids))
            assert abs(torch.tensor(values).mean() - expected.mean()) < tolerance


def test_the_golden_score_passes_in_bfloat16() -> None:
    engine = TransformersEngine(tiny_model().to("cuda", torch.bfloat16))
    golden_check.check(Teacher.of("tiny", ChatEncoder.of(byte_tokenizer()), engine))


def test_a_batch_is_split_until_it_fits_the_device() -> None:
    engine = TransformersEngine(tiny_model().cuda(), max_forward_tokens=10**9)
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        scored = engine.token_logprobs([SETS[0]] * 20_000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(scored) == 20_000
