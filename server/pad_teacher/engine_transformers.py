"""The embedded engine: any decoder that transformers loads, on CPU or one GPU."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pad_teacher.engine import Echo, EchoLogprobs, EngineFailed, FloatArray, RowTooLarge, TokenSet
from pad_teacher.projection import Head, Projected, project

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids of one sequence, the first position whose prediction is wanted, and each prediction's targets."""

    ids: list[int]
    start: int
    targets: list[list[int]]


class TransformersEngine:
    """Rows of similar length run together, padded on the right: a causal model never sees the padding."""

    name = "transformers"

    def __init__(self, model: Any, *, max_context_tokens: int | None = None, max_forward_tokens: int = 8192) -> None:
        self._model = model.eval()
        config = model.config.get_text_config()
        if getattr(config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # the fused kernels leave the soft cap out
        self._long_rope_from = _long_rope_from(config)
        self._decoder = model.get_decoder()
        self._head = Head.of(model)
        self._max_forward_tokens = max_forward_tokens
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.vocabulary = len(self._head.weight_V_D)
        own_limit = getattr(config, "max_position_embeddings", None) or max_context_tokens
        if own_limit is None:
            raise ValueError("the model's config states no context length; give one with --max-context-tokens")
        self.max_context_tokens = min(own_limit, max_context_tokens or own_limit)

    @classmethod
    def load(
        cls, model: str, *, revision: str | None, dtype: str, device: str, **limits: Any
    ) -> "TransformersEngine":
        """Load from a directory or a hub id.

        ``auto`` is the first GPU with the checkpoint's own dtype, or else the CPU in float32.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        on_cpu = torch.device(device).type == "cpu"
        wanted = DTYPES.get(dtype, torch.float32 if on_cpu else "auto")
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, revision=revision, dtype=wanted)
        return cls(loaded.to(device), **limits)

    @torch.inference_mode()
    def token_logprobs(self, sets: Sequence[TokenSet]) -> list[list[FloatArray]]:
        """See ``Engine``."""
        rows = [
            _Row(item.prompt_ids + response[:-1], len(item.prompt_ids) - 1, [[token] for token in response])
            for item in sets
            for response in item.response_ids
        ]
        scored = iter(self._run(rows))
        return [[_array(next(scored).targets_K_M[:, 0]) for _ in item.response_ids] for item in sets]

    @torch.inference_mode()
    def label_logprobs(self, prompts: Sequence[list[int]], labels: Sequence[list[int]]) -> list[FloatArray]:
        """See ``Engine``."""
        rows = [_Row(ids, len(ids) - 1, [wanted]) for ids, wanted in zip(prompts, labels, strict=True)]
        return [_array(scored.targets_K_M[0]) for scored in self._run(rows)]

    @torch.inference_mode()
    def echo_logprobs(self, texts: Sequence[Echo]) -> list[EchoLogprobs]:
        """See ``Engine``."""
        # What follows the last token is not known: its target is a placeholder, and dropped below.
        rows = [
            _Row(text.ids, 0, [[token] for token in [*text.ids[1:], 0]])
            if text.everywhere
            else _Row(text.ids, len(text.ids) - 1, [[0]])
            for text in texts
        ]
        results = self._run(rows, top=max((text.top for text in texts), default=0))
        return [
            EchoLogprobs(
                _array(scored.targets_K_M[:-1, 0]),
                scored.top_ids_K_T[:, : text.top].cpu().numpy(),
                _array(scored.top_K_T[:, : text.top]),
            )
            for text, scored in zip(texts, results, strict=True)
        ]

    @torch.inference_mode()
    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """See ``Engine``: the model's own full logits, one sequence, log-softmax in float64."""
        ids = torch.tensor([prompt_ids + response_ids], device=self._model.device)
        logits = self._model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1]
        log_probs = logits.double().log_softmax(-1)
        return _array(log_probs.gather(-1, ids[0, len(prompt_ids) :, None])[:, 0])

    def digest(self) -> str:
        """See ``Engine``."""
        # Position scaling, soft caps and windows are the config's; where it was loaded from is not the model.
        own = {
            k: v
            for k, v in self._model.config.to_dict().items()
            if k not in ("_name_or_path", "transformers_version")
        }
        digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _run(self, rows: Sequence[_Row], top: int = 0) -> list[Projected]:
        """One result a row, in the order given, whatever the order and grouping they ran in."""
        results: dict[int, Projected] = {}
        for group in self._groups(rows):
            results.update(zip(group, self._run_group([rows[i] for i in group], top), strict=True))
        return [results[index] for index in range(len(rows))]

    def _groups(self, rows: Sequence[_Row]) -> Iterator[list[int]]:
        """Indices of rows that run together: longest first, so that neighbours pad each other little."""
        group: list[int] = []
        for index in sorted(range(len(rows)), key=lambda i: -len(rows[i].ids)):
            longest, length = len(rows[group[0]].ids) if group else 0, len(rows[index].ids)
            # Models with two sets of position frequencies choose by the longest row for all rows of a forward.
            mixes = length < self._long_rope_from <= longest
            if group and (mixes or (len(group) + 1) * longest > self._max_forward_tokens):
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def _run_group(self, rows: list[_Row], top: int) -> list[Projected]:
        """One forward; split in half where the device's memory does not hold it."""
        try:
            return self._forward(rows, top)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise EngineFailed(f"{type(error).__name__} in the model's forward pass") from error
            if len(rows) == 1:
                raise RowTooLarge(f"a text of {len(rows[0].ids)} tokens does not fit the teacher's memory") from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = len(rows) // 2
        return self._run_group(rows[:half], top) + self._run_group(rows[half:], top)

    def _forward(self, rows: list[_Row], top: int) -> list[Projected]:
        longest = max(len(row.ids) for row in rows)
        device = self._model.device
        ids_R_L = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=device)
        hidden_R_L_D = self._decoder(input_ids=ids_R_L, use_cache=False).last_hidden_state
        hidden_K_D = torch.cat([hidden_R_L_D[i, row.start : len(row.ids)] for i, row in enumerate(rows)])
        # Rows may ask about different numbers of targets: repeat the first to fill, and cut what was filled.
        width = max(len(targets) for row in rows for targets in row.targets)
        targets = [t + t[:1] * (width - len(t)) for row in rows for t in row.targets]
        scored = project(self._head, hidden_K_D, torch.tensor(targets, device=device), top)
        sizes = [len(row.targets) for row in rows]
        parts = zip(
            *(part.split(sizes) for part in (scored.targets_K_M, scored.top_ids_K_T, scored.top_K_T)), strict=True
        )
        return [
            Projected(found[:, : len(row.targets[0])], top_ids, top_values)
            for row, (found, top_ids, top_values) in zip(rows, parts, strict=True)
        ]


def _long_rope_from(config: Any) -> float:
    """The length from which ``longrope`` changes its frequencies."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = str(rope.get("rope_type"))
    if "dynamic" in kind:
        raise ValueError("rope_type dynamic makes a score depend on what was scored before; it cannot be served")
    return rope["original_max_position_embeddings"] + 1 if kind == "longrope" else float("inf")


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU allocator raises a plain RuntimeError, known only by its text.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _array(values: Tensor) -> FloatArray:
    return values.float().cpu().numpy().astype(np.float32, copy=False)
