"""Tiny random models of real architectures, and float64 log-probabilities without the project's code."""

from copy import deepcopy
from typing import Any

Architecture = tuple[str, dict[str, Any]]
"""The model's class in transformers, and the settings of its config."""

VOCABULARY = 262
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # large enough that a wrong position or a dropped soft cap shows in the numbers
}

_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 32,
}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": ("LlamaForCausalLM", _SIZES),
    "qwen2": ("Qwen2ForCausalLM", dict(**_SIZES, tie_word_embeddings=True)),
    "mistral, sliding window": ("MistralForCausalLM", dict(**_SIZES, sliding_window=8)),
    "gemma2, soft caps and sliding window": (
        "Gemma2ForCausalLM",
        dict(**_SIZES, head_dim=8, sliding_window=8, final_logit_softcapping=3.0, attn_logit_softcapping=2.0),
    ),
    "cohere, scaled logits": ("CohereForCausalLM", dict(**_SIZES, logit_scale=0.25)),
    "granite, scaled logits": ("GraniteForCausalLM", dict(**_SIZES, logits_scaling=4.0)),
    "phi3, long rope": (
        "Phi3ForCausalLM",
        dict(**_SIZES, pad_token_id=0, original_max_position_embeddings=32, rope_parameters=_LONG_ROPE),
    ),
    "gemma3, both kinds of layers": (
        "Gemma3ForCausalLM",
        dict(**_SIZES, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    ),
    "qwen3": ("Qwen3ForCausalLM", dict(**_SIZES, head_dim=8)),
    "gpt2, learned positions": (
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 256,
            "initializer_range": 0.3,
        },
    ),
}

# Mixtures of experts have no float64 kernel: these are compared with their own eager attention in float32.
SPARSE: dict[str, Architecture] = {
    "mixtral": ("MixtralForCausalLM", dict(**_SIZES, num_local_experts=4)),
    "gpt-oss, sinks and sliding window": (
        "GptOssForCausalLM",
        dict(
            **_SIZES,
            head_dim=8,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=8,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        ),
    ),
    "deepseek, values smaller than keys": (
        "DeepseekV3ForCausalLM",
        dict(
            **{**_SIZES, "num_key_value_heads": 4},
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
            n_routed_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            n_group=1,
            topk_group=1,
            first_k_dense_replace=1,
        ),
    ),
}

# These cannot run as one sequence: state-space layers, position biases (ALiBi), chunked attention.
PLAIN: dict[str, Architecture] = {
    "mamba": (
        "MambaForCausalLM",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    ),
    "bloom": ("BloomForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "llama 4": (
        "Llama4ForCausalLM",
        dict(
            **{**_SIZES, "num_hidden_layers": 4},
            intermediate_size_mlp=48,
            head_dim=8,
            num_local_experts=2,
            attention_chunk_size=8,
        ),
    ),
}


def tiny_model(architecture: str = "llama", seed: int = 0) -> Any:
    """A random model of the named architecture in evaluation mode, with its default attention implementation."""
    return _random((ARCHITECTURES | SPARSE | PLAIN)[architecture], seed)


# vLLM's attention on CPUs takes heads of 32 and more.
_VLLM_SIZES: dict[str, Any] = _SIZES | {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2050,
}
FOR_VLLM: dict[str, Architecture] = {
    "llama": ("LlamaForCausalLM", _VLLM_SIZES),
    "qwen2": ("Qwen2ForCausalLM", dict(**_VLLM_SIZES, tie_word_embeddings=True)),
    "gemma2": (
        "Gemma2ForCausalLM",
        dict(
            **_VLLM_SIZES,
            head_dim=32,
            sliding_window=16,
            query_pre_attn_scalar=32,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=2.0,
        ),
    ),
}


def vllm_model(architecture: str, seed: int = 0) -> Any:
    """A random model of the named architecture that vLLM runs too."""
    return _random(FOR_VLLM[architecture], seed)


def _random(architecture: Architecture, seed: int) -> Any:
    import torch
    import transformers

    name, settings = architecture
    kind = getattr(transformers, name)
    torch.manual_seed(seed)
    return kind(kind.config_class(**deepcopy(settings))).eval()


def oracle(model: Any, prompt: list[int], response: list[int]) -> list[float]:
    """Log-probability of each response token, in nats: float64, eager attention, one forward pass a token."""
    import torch

    loaded_with = model.config._attn_implementation
    exact = model.double()
    exact.set_attn_implementation("eager")  # fused kernels leave Gemma-2's soft cap out
    try:
        values = []
        for k, token in enumerate(response):
            logits = exact(input_ids=torch.tensor([prompt + response[:k]])).logits[0, -1]
            values.append((logits[token] - logits.exp().sum().log()).item())
        return values
    finally:
        model.float()
        model.set_attn_implementation(loaded_with)
