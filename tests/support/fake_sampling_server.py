"""A stand-in for a vLLM server: it loads weights from disk and samples with them, token by token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    import torch

Answer = Callable[[httpx.Request], httpx.Response]


class FakeSamplingServer:
    """``transport`` answers as vLLM 0.32 does; a path in ``instead`` is answered by that function."""

    def __init__(self, max_model_len: int = 64, deaf: bool = False, **instead: Answer) -> None:
        self.instead = {f"/{path}": answer for path, answer in instead.items()}
        self.requests: list[dict[str, Any]] = []
        self.loads = 0
        self.version = "default"
        self.max_model_len = max_model_len
        self.transport = httpx.MockTransport(self._answer)
        self._deaf = deaf  # says that it loaded weights, and keeps the first
        self._model: Any = None

    def _answer(self, request: httpx.Request) -> httpx.Response:
        import torch

        path = request.url.path
        if path in self.instead:
            return self.instead[path](request)
        body = json.loads(request.content) if request.content else {}
        match path:
            case "/collective_rpc":
                return self.load(Path(body["kwargs"]["weights_path"]))
            case "/update_weight_version":
                self.version = body["new_version"]
                return httpx.Response(200, json={"success": True})
            case "/weight_info":
                return httpx.Response(200, json={"weight_version": self.version})
            case "/v1/models":
                model = {"id": "student", "max_model_len": self.max_model_len}
                return httpx.Response(200, json={"data": [model]})
        assert path == "/v1/completions"
        self.requests.append(body)
        generator = torch.Generator().manual_seed(body["seed"])
        return httpx.Response(200, json={"choices": [self._choice(body, generator) for _ in range(body["n"])]})

    def load(self, folder: Path) -> httpx.Response:
        self.loads += 1
        if self._model is None or not self._deaf:
            from transformers import AutoModelForCausalLM

            self._model = AutoModelForCausalLM.from_pretrained(folder)
        return httpx.Response(200, json={"results": [None]})

    def _choice(self, body: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        import torch

        ids: list[int] = []
        log_probs: list[float] = []
        while len(ids) < body["max_tokens"] and not set(ids) & set(body["stop_token_ids"]):
            with torch.no_grad():
                logits = self._model(torch.tensor([body["prompt"] + ids])).logits[0, -1]
            weights = (logits / body["temperature"]).softmax(-1)
            ids.append(int(torch.multinomial(weights, 1, generator=generator)))
            log_probs.append(logits.log_softmax(-1)[ids[-1]].item())
        return {"token_ids": ids, "logprobs": {"token_logprobs": log_probs}, "finish_reason": "ignored"}
