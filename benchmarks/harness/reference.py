"""The exact numbers: a decoder in float64 from the weights alone, without transformers or project code.

    python -m benchmarks.harness.reference MODEL WORKLOAD OUT.npz --sets 2 --device cpu

Only the rotary table is in float32: models are trained with that table, and every runtime uses it. A float64 table
would add the same error to all contenders, as large as their own.
Axes: L row length · V vocabulary · D hidden · H heads · G key heads · d head size.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, silu


class Decoder:
    """Llama, Qwen2 and Gemma-2, one sequence at a time, with the whole matrix of attention scores."""

    def __init__(self, folder: Path, device: str) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.gemma = self.config["model_type"] == "gemma2"
        self.weights: dict[str, Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            for name, tensor in load_file(file).items():
                self.weights[name] = tensor.to(device).double()

    def hidden(self, ids_L: Tensor) -> Tensor:
        """States after the last norm, [L, D]."""
        h_L_D = self.weights["model.embed_tokens.weight"][ids_L]
        if self.gemma:
            h_L_D = h_L_D * self.config["hidden_size"] ** 0.5
        for index in range(self.config["num_hidden_layers"]):
            h_L_D = self._layer(h_L_D, f"model.layers.{index}.", index)
        return self._norm(h_L_D, "model.norm")

    def logits(self, h_L_D: Tensor) -> Tensor:
        """Logits over the whole vocabulary, [L, V]."""
        head = "model.embed_tokens.weight" if self.config["tie_word_embeddings"] else "lm_head.weight"
        return _capped(h_L_D @ self.weights[head].T, self.config.get("final_logit_softcapping"))

    def _layer(self, h_L_D: Tensor, at: str, index: int) -> Tensor:
        mixed_L_D = self._attention(self._norm(h_L_D, at + "input_layernorm"), at + "self_attn.", index)
        if not self.gemma:
            h_L_D = h_L_D + mixed_L_D
            return h_L_D + self._mlp(self._norm(h_L_D, at + "post_attention_layernorm"), at + "mlp.")
        h_L_D = h_L_D + self._norm(mixed_L_D, at + "post_attention_layernorm")
        fed_L_D = self._mlp(self._norm(h_L_D, at + "pre_feedforward_layernorm"), at + "mlp.")
        return h_L_D + self._norm(fed_L_D, at + "post_feedforward_layernorm")

    def _attention(self, h_L_D: Tensor, at: str, index: int) -> Tensor:
        c, length = self.config, len(h_L_D)
        size, heads, groups = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        q_H_L_d = self._rotated(self._linear(h_L_D, at + "q_proj").view(length, heads, size).transpose(0, 1))
        k_G_L_d = self._rotated(self._linear(h_L_D, at + "k_proj").view(length, groups, size).transpose(0, 1))
        v_G_L_d = self._linear(h_L_D, at + "v_proj").view(length, groups, size).transpose(0, 1)
        k_H_L_d, v_H_L_d = (x.repeat_interleave(heads // groups, 0) for x in (k_G_L_d, v_G_L_d))
        scores_H_L_L = q_H_L_d @ k_H_L_d.transpose(1, 2) * c.get("query_pre_attn_scalar", size) ** -0.5
        scores_H_L_L = _capped(scores_H_L_L, c.get("attn_logit_softcapping"))
        seen_L_L = torch.ones(length, length, dtype=torch.bool, device=h_L_D.device).tril()
        kinds = c.get("layer_types")
        if kinds and kinds[index] == "sliding_attention":
            seen_L_L &= ~seen_L_L.tril(-c["sliding_window"])
        weights_H_L_L = scores_H_L_L.masked_fill(~seen_L_L, -torch.inf).softmax(-1)
        return self._linear((weights_H_L_L @ v_H_L_d).transpose(0, 1).reshape(length, -1), at + "o_proj")

    def _mlp(self, h_L_D: Tensor, at: str) -> Tensor:
        gate = self._linear(h_L_D, at + "gate_proj")
        gate = gelu(gate, approximate="tanh") if self.gemma else silu(gate)
        return self._linear(gate * self._linear(h_L_D, at + "up_proj"), at + "down_proj")

    def _norm(self, h_L_D: Tensor, name: str) -> Tensor:
        weight_D = self.weights[name + ".weight"] + (1 if self.gemma else 0)
        return h_L_D * (h_L_D.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt() * weight_D

    def _linear(self, h_L_D: Tensor, name: str) -> Tensor:
        out = h_L_D @ self.weights[name + ".weight"].T
        return out + self.weights[name + ".bias"] if name + ".bias" in self.weights else out

    def _rotated(self, x_H_L_d: Tensor) -> Tensor:
        _, length, size = x_H_L_d.shape
        steps = torch.arange(0, size, 2, device=x_H_L_d.device).float() / size
        frequencies = 1 / self.config["rope_parameters"]["rope_theta"] ** steps
        positions_L = torch.arange(length, device=x_H_L_d.device).float()
        angles_L_d = (positions_L[:, None] * frequencies).repeat(1, 2)
        cos_L_d, sin_L_d = angles_L_d.cos().double(), angles_L_d.sin().double()
        first, second = x_H_L_d.chunk(2, -1)
        return x_H_L_d * cos_L_d + torch.cat([-second, first], -1) * sin_L_d


def _capped(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else cap * (x / cap).tanh()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("workload", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    decoder, found = Decoder(options.model, options.device), {}
    for s, item in enumerate(json.loads(options.workload.read_text())[: options.sets]):
        for r, response in enumerate(item["response_ids"]):
            ids_L = torch.tensor(item["prompt_ids"] + response, device=options.device)
            start = len(item["prompt_ids"])
            log_probs_L_V = decoder.logits(decoder.hidden(ids_L)[start - 1 : -1]).log_softmax(-1)
            found[f"{s}.{r}"] = log_probs_L_V.gather(-1, ids_L[start:, None])[:, 0].cpu().numpy()
    np.savez(options.out, **found)


if __name__ == "__main__":
    main()
