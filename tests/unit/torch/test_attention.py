"""A way of attending, registered with transformers and called by a real model."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pad_torch.attention import AttentionCall, attention_of, register_attention
from support.tiny import VOCABULARY, tiny_model

NAME = "for_this_test"
IDS = torch.arange(12)[None] % VOCABULARY


@dataclass
class Sequence:
    windows: list[int | None] = field(default_factory=list)


def causal(call: AttentionCall, _: Sequence) -> Tensor:
    query_G_H_T_d, key_G_H_T_d, value_G_H_T_d = call.by_key_head()
    output = scaled_dot_product_attention(query_G_H_T_d, key_G_H_T_d, value_G_H_T_d, is_causal=True, scale=call.scale)
    return output.flatten(0, 1).transpose(0, 1)


register_attention(NAME, "sequence", causal)


@torch.no_grad()
def test_a_model_attends_by_what_is_registered_within_the_block() -> None:
    model, sequence = tiny_model("llama"), Sequence()
    plain, before = model(IDS).logits, model.config._attn_implementation
    with attention_of(model, NAME):
        found = model(IDS, sequence=sequence, use_cache=False).logits
    assert torch.allclose(found, plain, atol=1e-5)
    assert sequence.windows == [None] * model.config.num_hidden_layers
    assert model.config._attn_implementation == before


@torch.no_grad()
def test_windows_are_those_that_layers_are_called_with() -> None:
    model, sequence = tiny_model("mistral, sliding window"), Sequence()
    with attention_of(model, NAME):
        model(IDS, sequence=sequence, use_cache=False)
    assert sequence.windows == [8] * model.config.num_hidden_layers


@torch.no_grad()
def test_more_than_one_row_is_refused_and_the_model_is_restored() -> None:
    model = tiny_model("llama")
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match="adds something"), attention_of(model, NAME):
        model(IDS.expand(2, -1), sequence=Sequence(), use_cache=False)
    assert model.config._attn_implementation == before


def test_heads_that_share_keys_do_not_copy_them() -> None:
    query, key = torch.randn(6, 5, 4), torch.randn(2, 5, 4)
    query_G_H_T_d, key_G_H_T_d, _ = AttentionCall(query, key, key, 1.0).by_key_head()
    assert query_G_H_T_d.shape == key_G_H_T_d.shape == (2, 3, 5, 4)
    assert torch.equal(query_G_H_T_d.flatten(0, 1), query)
    assert key_G_H_T_d.untyped_storage().data_ptr() == key.untyped_storage().data_ptr()
