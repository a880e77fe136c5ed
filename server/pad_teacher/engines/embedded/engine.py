"""The embedded engine: any decoder that transformers loads, on CPU or one GPU."""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import structlog
import torch
from torch import Tensor

from pad_teacher.engines.base import Engine, EngineFailed, RowTooLarge
from pad_teacher.engines.embedded import packed_linear, padded_forward, tree_attention, tree_forward
from pad_teacher.engines.embedded.memory import MemoryModel
from pad_teacher.engines.embedded.output_head import OutputHead, project
from pad_teacher.engines.embedded.padded_forward import decoder_of
from pad_teacher.engines.embedded.prefix_tree import pack
from pad_teacher.engines.embedded.rows import Row, RowLogprobs, answer, rows_of
from pad_teacher.engines.queries import Answer, FloatArray, Query
from pad_torch.checkpoint import load_model, own_memory
from pad_torch.context_length import context_length

log = structlog.get_logger()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersEngine(Engine):
    """Scores many sets in one forward pass and computes each shared prefix once.

    - It owns the model and changes it: attention over a prefix tree, linear layers packed for a CPU.
    - A model that cannot run so (state-space layers, attention with biases of its own) runs row by row;
      ``plain_because`` says why.
    - Once ``measure_memory`` has run, no forward pass begins that needs more than ``memory_limit`` bytes, if there is
      a limit.
    """

    name = "transformers"

    def __init__(self, model: Any, *, max_context_tokens: int | None = None, max_forward_tokens: int = 8192) -> None:
        self._model = model.eval()
        config = model.config.get_text_config()
        if getattr(config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # fused kernels do not cap scores
        self._long_rope_from = _long_rope_from(config)
        self._decoder = decoder_of(model)
        self._max_forward_tokens = max_forward_tokens
        self._digest = _digest(model)
        self.memory: MemoryModel | None = None
        self.memory_limit: int | None = None
        self._plain_attention = model.config._attn_implementation
        with torch.inference_mode():
            self.plain_because = tree_forward.why_not_tree(model)
            if packed_linear.usable(model):
                packed_linear.pack_linears(self._decoder)
            self.output_head = OutputHead.of(model, packed=packed_linear.usable(model))
        self._hidden_states = padded_forward.hidden_states if self.plain_because else tree_forward.hidden_states
        if self.plain_because:
            log.warning("every response runs with a prompt of its own", reason=self.plain_because)
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.vocabulary = self.output_head.vocabulary
        own_limit = context_length(model.config) or max_context_tokens
        if own_limit is None:
            raise ValueError("the model's config states no context length; give one with --max-context-tokens")
        self.max_context_tokens = min(own_limit, max_context_tokens or own_limit)
        if max_context_tokens and max_context_tokens > own_limit:
            log.warning("--max-context-tokens is more than the model's config allows", lowered_to=own_limit)

    @classmethod
    def load(
        cls,
        model: str,
        *,
        revision: str | None,
        dtype: str,
        device: str,
        allow: Collection[str] = (),
        **limits: Any,
    ) -> "TransformersEngine":
        """Load from a directory or a Hub id.

        The device ``auto`` is the first GPU, or the CPU if there is none. The dtype ``auto`` is the checkpoint's own
        on a GPU and float32 on a CPU. ``allow`` names findings that are no reason to refuse the checkpoint.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        on_cpu = torch.device(device).type == "cpu"
        wanted = DTYPES.get(dtype, torch.float32 if on_cpu else "auto")
        loaded = load_model(model, revision=revision, dtype=wanted, allow=allow)
        own_memory(loaded)
        engine = cls(loaded.to(device), **limits)
        engine.measure_memory()
        return engine

    @torch.inference_mode()
    def score(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``Engine``."""
        rows = [row for query in queries for row in rows_of(query)]
        scored = (result for group in self._groups(rows) for result in self._run(group))
        return [answer(query, scored) for query in queries]

    def reference_logprobs(self, prompt_ids: list[int], response_ids: list[int]) -> FloatArray:
        """See ``Engine``: one sequence, the model's own full logits, log-softmax in float64."""
        logits_T_V = _logits(self._model, self._plain_attention, prompt_ids + response_ids)
        return _logprobs(logits_T_V[len(prompt_ids) - 1 : -1], response_ids)

    def reference_label_logprobs(self, prompt_ids: list[int], label_ids: list[int]) -> FloatArray:
        """See ``Engine``: as ``reference_logprobs``, in one pass."""
        logits_T_V = _logits(self._model, self._plain_attention, prompt_ids)
        return _logprobs(logits_T_V[-1:].expand(len(label_ids), -1), label_ids)

    def measure_memory(self) -> None:
        """Measure the memory of forward passes, so that none begins that the device cannot hold."""
        log.info("starting", phase="memory")
        with torch.inference_mode():
            self.memory = MemoryModel.measure(self._layers, self.output_head, self._model.device)
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
            self.memory_limit = int(0.9 * torch.cuda.mem_get_info(self._model.device)[0])
        full = self.memory.predict(self._max_forward_tokens, self._max_forward_tokens)
        log.info("memory", full_batch_mib=full >> 20, kib_a_token=round(self.memory.per_token / 1024, 1))

    def predicted_bytes(self, rows: Sequence[Row]) -> int:
        """Memory of a forward pass over ``rows`` besides the weights; 0 before ``measure_memory``."""
        if self.memory is None:
            return 0
        longest = max(len(row.ids_L) for row in rows)
        if self.plain_because:
            tokens = padded_forward.most_tokens(rows, self._max_forward_tokens)
        else:
            tokens = len(pack([row.ids_L for row in rows]).ids_T)
        predicted = self.memory.predict_rows(tokens, rows)
        if self.plain_because:
            return predicted
        itemsize = self._model.dtype.itemsize
        return max(predicted, tree_attention.bytes_of_scores(self._model.config, tokens, longest, itemsize))

    def digest(self) -> str:
        """See ``Engine``; over names, shapes, dtypes and bytes of the weights as loaded."""
        return self._digest

    def _layers(self, rows: Sequence[Row]) -> Tensor:
        """Hidden states ``[K, D]`` of all positions whose predictions are wanted."""
        return self._hidden_states(self._decoder, rows, self._max_forward_tokens)

    def _groups(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Rows that run together, in the order given."""
        group: list[Row] = []
        tokens = 0
        for row in rows:
            # A model with two sets of position frequencies chooses one for all rows, by the longest of them.
            mixes = bool(group) and (len(row.ids_L) < self._long_rope_from) != (
                len(group[0].ids_L) < self._long_rope_from
            )
            if group and (mixes or tokens + row.cost > self._max_forward_tokens):
                yield group
                group, tokens = [], 0
            tokens += row.cost if group else len(row.ids_L)
            group.append(row)
        if group:
            yield group

    def _run(self, rows: list[Row]) -> list[RowLogprobs]:
        """One forward pass, or two of half the rows each if the device's memory does not hold it."""
        try:
            if self.memory_limit is None or self.predicted_bytes(rows) <= self.memory_limit:
                return project(self.output_head, self._layers(rows), rows)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise EngineFailed(f"{type(error).__name__} in the model's forward pass") from error
        # Outside the handler, whose traceback would keep all tensors of the failed pass alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            raise RowTooLarge(f"a text of {len(rows[0].ids_L)} tokens does not fit the teacher's memory")
        half = len(rows) // 2
        return self._run(rows[:half]) + self._run(rows[half:])


def _digest(model: Any) -> str:
    # The config holds position scaling, soft caps and windows. Its own path and version do not belong to the model.
    own = {k: v for k, v in model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _long_rope_from(config: Any) -> float:
    """The length from which ``longrope`` changes its frequencies."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_kind_of_layer = [part for part in rope.values() if isinstance(part, dict)]
    shortest = float("inf")
    for part in by_kind_of_layer or [rope]:
        kind = str(part.get("rope_type"))
        if "dynamic" in kind:
            raise ValueError("rope_type dynamic makes a score depend on what was scored before; it cannot be served")
        if kind == "longrope":
            shortest = min(shortest, part["original_max_position_embeddings"] + 1)
    return shortest


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU allocator raises a plain RuntimeError, which only its text tells apart.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@torch.inference_mode()
def _logits(model: Any, plain_attention: Any, ids: list[int]) -> Tensor:
    """The model's own logits of one sequence, ``[token, vocabulary]``, without any fast way."""
    given = torch.tensor([ids], device=model.device)
    with packed_linear.unpacked(), tree_forward.plain_attention(model, plain_attention):
        return model(input_ids=given, use_cache=False).logits[0]


def _logprobs(logits_T_V: Tensor, ids: list[int]) -> FloatArray:
    """The log-probability of one id in each row."""
    ids_T_1 = torch.tensor(ids, device=logits_T_V.device)[:, None]
    return logits_T_V.double().log_softmax(-1).gather(-1, ids_T_1)[:, 0].float().cpu().numpy()


# pyright: standard
