"""Attention over two sets of keys, merged, against attention over both."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pad_torch.merge_attention import merge_attention

NO_KEYS = -1e30  # stands for the log-sum-exp over no keys


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 2**32))
def test_two_sets_of_keys_merge_to_attention_over_both(first: int, second: int, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = ((3, 4), (first + second, 4), (first + second, 5))
    query, key, value = (torch.randn(*size).double() for size in sizes)

    def attend(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        scores = 3 * query @ key[part].T
        total = scores.logsumexp(-1).clamp(min=NO_KEYS)
        return ((scores - total[:, None]).exp() @ value[part]), total

    output, total = attend(slice(0, first))
    merge_attention(output, total, *attend(slice(first, None)))
    whole, whole_total = attend(slice(None))
    assert torch.allclose(output, whole, atol=1e-12)
    assert torch.allclose(total, whole_total, atol=1e-12)
