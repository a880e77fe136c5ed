"""Model shapes by name: the sizes of real models, for random weights."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's architecture and sizes; ``rest`` has the other values of its transformers config."""

    kind: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    rope_theta: float
    tied: bool
    context: int = 8192
    rest: tuple[tuple[str, Any], ...] = (("rms_norm_eps", 1e-5),)

    def config(self) -> dict[str, Any]:
        """Values of a transformers config."""
        # With the usual 0.02 all tokens would be about equally likely, which hides errors. This width makes logits
        # spread by about 1.5, as a trained model's do.
        spread = 1.5 * self.hidden**-0.5
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "vocab_size": self.vocabulary,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.context,
            "initializer_range": spread,
            **dict(self.rest),
        }

    @property
    def layer_weights(self) -> int:
        """Linear weights of all layers."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """Weights of the vocabulary projection."""
        return self.hidden * self.vocabulary


_QWEN = (("rms_norm_eps", 1e-6),)


def _gemma(query_scale: int) -> tuple[tuple[str, Any], ...]:
    capped = (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0), ("sliding_window", 4096))
    return (("rms_norm_eps", 1e-6), ("query_pre_attn_scalar", query_scale), *capped)


SHAPES = {
    "tiny": Shape("llama", 2, 64, 128, 2, 1, 32, 49_152, 1e4, tied=True),  # for smoke runs
    "smollm2-135m": Shape("llama", 30, 576, 1536, 9, 3, 64, 49_152, 1e5, tied=True),
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 4864, 14, 2, 64, 151_936, 1e6, tied=True, rest=_QWEN),
    "llama-3.1-8b": Shape("llama", 32, 4096, 14_336, 32, 8, 128, 128_256, 5e5, tied=False),
    "gemma-2-2b": Shape("gemma2", 26, 2304, 9216, 8, 4, 256, 256_000, 1e4, tied=True, rest=_gemma(256)),
    "gemma-2-9b": Shape("gemma2", 42, 3584, 14_336, 16, 8, 256, 256_000, 1e4, tied=True, rest=_gemma(256)),
    "gemma-2-27b": Shape("gemma2", 46, 4608, 36_864, 32, 16, 128, 256_000, 1e4, tied=True, rest=_gemma(144)),
    "llama-3.1-70b": Shape("llama", 80, 8192, 28_672, 64, 8, 128, 128_256, 5e5, tied=False),
}
