"""Attention over the union of two sets of keys, from the attention over each: the log-sum-exp merge."""

import torch
from torch import Tensor


def merge_attention(output: Tensor, total: Tensor, more: Tensor, more_total: Tensor) -> None:
    """Add the attention to further keys to ``output`` [..., d] and to its log-sum-exp ``total`` [...], in place.

    A softmax over two sets of keys is the mean of both softmaxes, weighted by their normalisers. With o_i and l_i
    the output and the log-sum-exp over set i: o = sigmoid(l_1 - l_2) o_1 + sigmoid(l_2 - l_1) o_2 and
    l = logaddexp(l_1, l_2).
    """
    weight = torch.sigmoid(more_total - total)[..., None].to(output.dtype)
    torch.lerp(output, more, weight, out=output)
    torch.logaddexp(total, more_total, out=total)
