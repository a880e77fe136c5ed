"""The student's log-likelihoods against plain full logits: values, gradients, wrappers, and models it must refuse."""

import copy

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from pad_student.errors import UnsupportedModel
from pad_student.model.checks import check_against_full_logits
from pad_student.model.logprobs import Batch, collate, response_log_likelihoods

torch.set_num_threads(1)

TINY = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
    "attn_implementation": "eager",
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama with tied head": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 16, "final_logit_softcapping": 2.0}),
    "cohere": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.25}),
    "granite": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 4.0}),
}


def tiny(name="llama", dtype=torch.float64):
    torch.manual_seed(0)
    model_class, config_class, options = MODELS[name]
    return model_class(config_class(**TINY, **options)).to(dtype)


@pytest.fixture(scope="module")
def batch():
    return collate([[1, 5, 9], [1, 7], [1, 5, 9, 11, 4]], [[20, 21, 2], [33, 34, 35, 36, 37, 2], [8]], pad_id=0)


every_model = pytest.mark.parametrize("name", MODELS)


def plain_token_log_probs(model, batch):
    """Each row alone and unpadded, full logits, float64 softmax."""
    rows = []
    for ids, attention, response in zip(*batch, strict=True):
        length = int(attention.sum())
        logits = model(input_ids=ids[None, :length]).logits[0].double()
        log_p = logits - logits.exp().sum(-1, keepdim=True).log()
        rows.append(torch.stack([log_p[t - 1, ids[t]] for t in range(length) if response[t]]))
    return rows


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equals_plain(model, batch, **options):
    found = response_log_likelihoods(model, *batch, per_token=True, **options)
    plain = plain_token_log_probs(model, batch)
    for ours, theirs in zip(found.token_log_likelihoods, plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)
    assert torch.allclose(found.log_likelihood, torch.stack([row.sum() for row in plain]), atol=1e-10)
    weights = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    ours = gradients(model, found.log_likelihood @ weights)
    theirs = gradients(model, torch.stack([row.sum() for row in plain]) @ weights)
    assert ours
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-9), name


@every_model
def test_values_and_gradients_equal_those_of_plain_full_logits(name, batch):
    assert_equals_plain(tiny(name), batch)


@pytest.mark.parametrize("chunk_size", [1, 3, 10])
def test_the_chunk_size_changes_nothing(chunk_size, batch):
    assert_equals_plain(tiny("gemma2"), batch, chunk_size=chunk_size)


def test_no_logits_tensor_is_larger_than_a_chunk(batch):
    model, seen = tiny(), []
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
    response_log_likelihoods(model, *batch, chunk_size=4).log_likelihood.sum().backward()
    assert seen == [(4, 61), (4, 61), (2, 61), *seen[3:]]
    assert len(seen) == 6, "each chunk is computed once forward and once again for its gradient"


@pytest.mark.parametrize("target", [["q_proj", "v_proj"], ["q_proj", "lm_head"]], ids=["body", "body and head"])
def test_lora_values_and_gradients_equal_plain_ones(target, batch):
    model = get_peft_model(
        tiny("gemma2" if "lm_head" not in target else "llama"),
        LoraConfig(target_modules=target, r=2, init_lora_weights=False, task_type="CAUSAL_LM"),
    ).double()
    assert_equals_plain(model, batch)
    check_against_full_logits(model)


def test_a_fully_trained_head_beside_lora_is_the_one_used(batch):
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"], r=2, task_type="CAUSAL_LM")
    model = get_peft_model(tiny(), config).double()
    with torch.no_grad():
        model.get_base_model().lm_head.modules_to_save["default"].weight.mul_(1.5)
    assert_equals_plain(model, batch)


def test_gradient_checkpointing_of_the_model_changes_nothing(batch):
    model = tiny().train()
    expected = gradients(model, response_log_likelihoods(model, *batch).log_likelihood.sum())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients(model, response_log_likelihoods(model, *batch).log_likelihood.sum())
    assert all(torch.allclose(found[name], gradient, atol=1e-12) for name, gradient in expected.items())


def test_bf16_weights_still_get_a_float32_softmax(batch):
    model = tiny("gemma2", torch.bfloat16)
    found = response_log_likelihoods(model, *batch)
    exact = torch.stack([row.sum() for row in plain_token_log_probs(tiny("gemma2"), batch)])
    assert found.log_likelihood.dtype == torch.float32
    assert torch.allclose(found.log_likelihood.double(), exact, rtol=0.05)
    sums_off_the_bf16_grid = found.log_likelihood != found.log_likelihood.bfloat16().float()
    assert sums_off_the_bf16_grid.any()


def test_bf16_autocast_gives_float32_values_and_gradients(batch):
    model = tiny(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = response_log_likelihoods(model, *batch)
    found.log_likelihood.sum().backward()
    exact = response_log_likelihoods(model, *batch).log_likelihood
    assert found.log_likelihood.dtype == torch.float32
    assert torch.allclose(found.log_likelihood, exact, rtol=0.05)
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


def test_a_mixed_precision_model_is_refused_outside_autocast(batch):
    model = tiny(dtype=torch.float32)
    model._original_forward = model.forward  # the mark Accelerate leaves
    with pytest.raises(RuntimeError, match=r"accelerator\.autocast"):
        response_log_likelihoods(model, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        response_log_likelihoods(model, *batch)


def test_tokens_are_counted_and_values_are_no_positive_numbers(batch):
    found = response_log_likelihoods(tiny(dtype=torch.float32), *batch)
    assert found.tokens.tolist() == [3, 6, 1]
    assert found.token_log_likelihoods is None
    assert (found.log_likelihood < 0).all()


def test_a_row_does_not_depend_on_the_other_rows(batch):
    model = tiny()
    together = response_log_likelihoods(model, *batch).log_likelihood
    alone = response_log_likelihoods(model, *collate([[1, 7]], [[33, 34, 35, 36, 37, 2]], pad_id=3)).log_likelihood
    assert torch.allclose(together[1:2], alone, atol=1e-10)


def test_a_wrapper_sees_the_pass_as_its_own(batch):
    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.passes = module, 0

        def forward(self, **inputs):
            self.passes += 1
            return self.module(**inputs)

    model = tiny()
    wrapper = Wrapper(model)
    expected = response_log_likelihoods(model, *batch).log_likelihood
    assert torch.equal(response_log_likelihoods(wrapper, *batch).log_likelihood, expected)
    assert wrapper.passes == 1


def test_the_models_own_forward_is_back_even_after_an_error(batch):
    model = tiny()
    response_log_likelihoods(model, *batch)
    with pytest.raises(IndexError):
        response_log_likelihoods(model, batch.input_ids + 1000, batch.attention_mask, batch.response_mask)
    assert "forward" not in model.__dict__
    assert model(input_ids=batch.input_ids).logits.shape == (3, 8, 61)


def test_a_forward_set_on_the_instance_is_put_back(batch):
    model = tiny()
    own = model.forward
    model.forward = own
    response_log_likelihoods(model, *batch)
    assert model.__dict__["forward"] is own


@every_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_the_check_accepts_models_whose_logits_are_understood(name, dtype):
    model = tiny(name, dtype).train()
    check_against_full_logits(model)
    assert model.training


def test_the_check_accepts_softcapping_under_autocast():
    model = tiny("gemma2", torch.float32)
    forward = model.forward

    def forward_to_float32(**inputs):
        output = forward(**inputs)
        output.logits = output.logits.float()
        return output

    model.forward = forward_to_float32
    with torch.autocast("cpu", torch.bfloat16):
        check_against_full_logits(model)


def test_the_check_accepts_gpt2():
    torch.manual_seed(0)
    check_against_full_logits(
        GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=2, n_positions=64))
    )


class ScaledLlama(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 0.8
        return output


@pytest.mark.parametrize("spread", [1e-4, 0.3], ids=["near-uniform", "spread"])
def test_the_check_refuses_an_unknown_transform_of_logits(spread):
    torch.manual_seed(0)
    model = ScaledLlama(LlamaConfig(**TINY | {"initializer_range": spread}))
    with pytest.raises(UnsupportedModel, match=r"ScaledLlama.*not known here"):
        check_against_full_logits(model)


def test_models_without_separate_body_and_head_are_refused(batch):
    prompt_tuned = get_peft_model(tiny(), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    headless = copy.copy(tiny())
    headless.lm_head = None
    for model, message in (
        (prompt_tuned, "prompt-learning"),
        (headless, "no output head"),
        (torch.nn.DataParallel(tiny()), "DataParallel"),
        (torch.nn.Linear(2, 2), "not a transformers"),
    ):
        with pytest.raises(UnsupportedModel, match=message):
            response_log_likelihoods(model, *batch)


def test_collate_pads_on_the_right_and_marks_the_response():
    made = collate([[1, 5], [1]], [[8, 2], [9]], pad_id=7)
    assert made.input_ids.tolist() == [[1, 5, 8, 2], [1, 9, 7, 7]]
    assert made.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert made.response_mask.int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("prompts", "responses", "message"),
    [
        ([[1]], [[]], "row 0"),
        ([[1], []], [[2], [2]], "row 1"),
        ([[1, 2, 3]], [[4, 5]], "more than 4"),
        ([[1], [1]], [[2]], "zip"),
    ],
    ids=["empty response", "empty prompt", "too long", "unequal"],
)
def test_collate_refuses_rows_it_would_have_to_change(prompts, responses, message):
    with pytest.raises(ValueError, match=message):
        collate(prompts, responses, pad_id=0, max_length=4)


@pytest.mark.parametrize("mask", [[[1, 1, 0]], [[0, 0, 0]]], ids=["no prompt", "no response"])
def test_a_mask_without_prompt_or_response_is_refused(mask):
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="every row"):
        response_log_likelihoods(tiny(), *Batch(ids, torch.ones_like(ids), torch.tensor(mask).bool()))


def test_an_encoder_decoder_is_refused(batch):
    config = T5Config(vocab_size=61, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
    with pytest.raises(UnsupportedModel, match="not a decoder body"):
        response_log_likelihoods(T5ForConditionalGeneration(config), *batch)


def test_a_model_that_caps_scores_gets_attention_that_caps_them():
    from pad_student.model.logprobs import use_defined_attention
    from support.tiny import tiny_model

    capped, plain = tiny_model("gemma2, soft caps and sliding window"), tiny_model("llama")
    before = plain.config._attn_implementation
    for model in (capped, plain):
        use_defined_attention(model)
    assert (capped.config._attn_implementation, plain.config._attn_implementation) == ("eager", before)
