"""A teacher and its reference in this process, whose distributions come from full logits; and pairs to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pad_student.storage.token_tables import TokenTable, encoded
from pad_wire import SampledSet, ScoredResponse, ScoredSet, TeacherId
from pad_wire.chat import ChatEncoder
from support.fakes import byte_tokenizer
from support.tiny import tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAIRS = [{"id": f"p{k}", "prompt": f"say {k}", "chosen": f"yes {k}", "rejected": "no"} for k in range(12)]


class TokenTeacher:
    """Names ``top`` tokens at each token of a response."""

    def __init__(self, top: int = 10, reference: bool = True, seeds: tuple[int, int] = (1, 2)) -> None:
        self.scored: list[str] = []
        self._top = top
        self._encoder = ChatEncoder.of(byte_tokenizer())
        self._models = [tiny_model(seed=seed) for seed in (seeds if reference else seeds[:1])]

    def score_stream(self, sets: Iterable[SampledSet], *_: Any, **__: Any) -> Iterator[ScoredSet]:
        for each in sets:
            self.scored.append(each.id)
            yield self._scored(each)

    def _scored(self, each: SampledSet) -> ScoredSet:
        prompt = self._encoder.prompt_ids(each.prompt)
        rows = self._encoder.response_ids([r.text for r in each.responses], [r.finished for r in each.responses])
        tables = [self.table(prompt, ids) for ids in rows]
        responses = []
        for response, table in zip(each.responses, tables, strict=True):
            own = table.arrays["token_logprobs"]
            total = float(own.sum(dtype=np.float64))
            numbers = {"log_likelihood": total, "tokens": len(own), "mean_log_likelihood": total / len(own)}
            responses.append(ScoredResponse(**response.model_dump(), **numbers))
        return ScoredSet(
            id=each.id,
            prompt=each.prompt,
            responses=responses,
            answer=each.answer,
            teacher=TeacherId(model="aligned", fingerprint="f"),
            reference=TeacherId(model="before", fingerprint="g") if len(self._models) > 1 else None,
            token_tables=encoded(tables),
        )

    def table(self, prompt: list[int], ids: list[int]) -> TokenTable:
        import torch

        arrays: dict[str, Any] = {"token_ids": np.array(ids, np.uint32)}
        for model, before in zip(self._models, ("", "reference_"), strict=False):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            log_probs = logits.double().log_softmax(-1)
            if not before:
                arrays["top_ids"] = log_probs.topk(self._top, -1).indices.numpy().astype(np.uint32)
            named = torch.from_numpy(arrays["top_ids"].astype(np.int64))
            own = log_probs.gather(-1, torch.tensor(ids)[:, None])[:, 0]
            rest = log_probs.scatter(-1, named, -torch.inf).logsumexp(-1)
            values = "top_logprobs" if not before else "reference_logprobs"
            arrays[f"{before}token_logprobs"] = own.float().numpy()
            arrays[values] = log_probs.gather(-1, named).float().numpy()
            arrays[f"{before}rest"] = rest.float().numpy()
        return TokenTable(arrays)
