"""A stand-in for a service of ``/v1/token_logprobs``: each model has distributions that follow from its seed."""

import json
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from pad_wire.chat import ChatEncoder
from support.fake_teacher import USAGE, FakeTeacherService, Fault
from support.fakes import byte_tokenizer

VOCABULARY = 262


class FakeTokenService(FakeTeacherService):
    """Answers with the distributions of model ``seed``, and of model ``reference`` if a request asks for it.

    ``changes`` replaces tensors of its replies, ``metadata`` their metadata, ``limits`` those of its card.
    """

    def __init__(
        self, *faults: Fault, seed: int, reference: int | None = None, tokenizer: str | None = "t" * 64
    ) -> None:
        super().__init__(*faults, fingerprint=f"fp-{seed}")
        self.tokenizer = tokenizer
        self.metadata: dict[str, str] = {}
        self.changes: dict[str, Any] = {}
        self.limits: dict[str, int] = {}
        self._seed, self._reference = seed, reference
        self._encoder = ChatEncoder.of(byte_tokenizer())

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.faults or request.url.path != "/v1/token_logprobs":
            return super().answer(request)
        self.requests.append(request)
        at = None
        if request.headers["content-type"] == "application/json":
            body = json.loads(request.content)
        else:
            length = int.from_bytes(request.content[:8], "little")
            body = json.loads(json.loads(request.content[8 : 8 + length])["__metadata__"]["request"])
            at = load(request.content)["at"].astype(np.int64)
        self.bodies.append(body)
        return httpx.Response(200, content=self._tensors(body, at))

    def card(self) -> dict:
        card = super().card()
        known = {"tokenizer": self.tokenizer} if self.tokenizer else {}
        return card | known | {"limits": card["limits"] | self.limits}

    def _tensors(self, body: dict, at: NDArray[Any] | None) -> bytes:
        rows = [ids for each in body["sets"] for ids in self._rows(each)]
        tokens = np.concatenate(rows)
        all_T_V = _log_probs(rows, self._seed)
        named = np.argsort(-all_T_V, axis=1, kind="stable")[:, : body["top"]] if at is None else at
        ids = {"offsets": np.cumsum([0, *map(len, rows)]), "token_ids": tokens, "top_ids": named}
        tensors: dict[str, Any] = {name: value.astype(np.uint32) for name, value in ids.items()}
        tensors |= _named("", "top_logprobs", all_T_V, tokens, named)
        metadata = {
            "model": f"m{self._seed}",
            "fingerprint": self.fingerprint,
            "tokenizer": self.tokenizer or "",
            "ids": json.dumps([each["id"] for each in body["sets"]]),
            "responses": json.dumps([len(each["responses"]) for each in body["sets"]]),
            "truncated": "[]",
            "usage": json.dumps(USAGE),
        }
        if body.get("reference"):
            assert self._reference is not None
            theirs = _log_probs(rows, self._reference)
            tensors |= _named("reference_", "reference_logprobs", theirs, tokens, named)
            metadata |= {"reference_model": "m", "reference_fingerprint": f"fp-{self._reference}"}
        return save(tensors | self.changes, metadata | self.metadata)

    def _rows(self, each: dict) -> list[list[int]]:
        responses = each["responses"]
        return self._encoder.response_ids([r["text"] for r in responses], [r["finished"] for r in responses])


def _log_probs(rows: list[list[int]], seed: int) -> NDArray[np.float64]:
    """[T, V], of the tokens of all rows; each follows from the seed and the tokens before it."""
    places = [ids[:k] for ids in rows for k in range(len(ids))]
    values = np.array([np.random.default_rng([seed, *before]).normal(size=VOCABULARY) for before in places])
    return values - np.logaddexp.reduce(values, axis=1, keepdims=True)


def _named(
    before: str, name: str, all_T_V: NDArray[np.float64], tokens: NDArray[Any], named: NDArray[Any]
) -> dict[str, NDArray[np.float32]]:
    others = all_T_V.copy()
    np.put_along_axis(others, named, -np.inf, axis=1)
    values = {
        f"{before}token_logprobs": all_T_V[np.arange(len(tokens)), tokens],
        name: np.take_along_axis(all_T_V, named, axis=1),
        f"{before}rest": np.logaddexp.reduce(others, axis=1),
    }
    return {key: value.astype(np.float32) for key, value in values.items()}
