"""A stand-in for the teacher service over HTTP: numbers follow from the texts; faults come on request."""

import json
from collections.abc import Callable

import httpx

from pad_wire import ErrorCode, ErrorDetail

USAGE = {"prompt_tokens": 1, "response_tokens": 2, "question_tokens": 3, "total_tokens": 6}
LIMITS = {
    "max_body_bytes": 1_000_000,
    "max_sets": 8,
    "max_responses": 8,
    "max_options": 8,
    "max_orders": 24,
    "max_context_tokens": 4096,
    "max_queued_tokens": 100_000,
}

Fault = Callable[[httpx.Request], httpx.Response]


class FakeTeacherService:
    """``transport`` answers as a teacher would, after each of ``faults`` has been served once."""

    def __init__(self, *faults: Fault, fingerprint: str = "fp-1") -> None:
        self.fingerprint = fingerprint
        self.faults = list(faults)
        self.requests: list[httpx.Request] = []
        self.bodies: list[dict] = []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.faults:
            return self.faults.pop(0)(request)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"object": "list", "data": [self.card()]})
        body = json.loads(request.content)
        self.bodies.append(body)
        return httpx.Response(200, json=self.reply(request.url.path, body))

    def card(self) -> dict:
        names = {"id": "fake", "object": "model", "created": 0, "owned_by": "tests", "engine": "fake"}
        return {
            **names,
            "fingerprint": self.fingerprint,
            "dtype": "float32",
            "end_of_turn": "<end>",
            "limits": LIMITS,
        }

    def reply(self, path: str, body: dict) -> dict:
        sets = [self._set(path, each, bool(body.get("unconditional"))) for each in body["sets"]]
        return {"teacher": {"model": "fake", "fingerprint": self.fingerprint}, "sets": sets, "usage": USAGE}

    def _set(self, path: str, each: dict, unconditional: bool) -> dict:
        texts = [response["text"] for response in each["responses"]]
        total = sum(len(text) + 1 for text in texts)
        responses = []
        for text in texts:
            tokens = len(text) + 1
            likelihood = {"log_likelihood": -2.0 * tokens, "tokens": tokens, "mean_log_likelihood": -2.0}
            if unconditional:
                likelihood["unconditional_log_likelihood"] = -3.0 * tokens
            selection = {"selection_probability": tokens / total}
            parts = {"/v1/likelihood": likelihood, "/v1/selection": selection}
            responses.append(parts.get(path, {**likelihood, **selection}))
        mass = {} if path == "/v1/likelihood" else {"label_mass": 0.9}
        return {"id": each["id"], "responses": responses, **mass}


def error(status: int, code: ErrorCode, headers: dict[str, str] | None = None, where: str | None = None) -> Fault:
    detail = ErrorDetail(code=code, message="because", retryable=status >= 429, where=where).as_sent()
    reply = {"error": detail.model_dump(exclude_none=True)}
    return lambda request: httpx.Response(status, json=reply, headers=headers)


def broken(kind: type[httpx.TransportError]) -> Fault:
    def fault(request: httpx.Request) -> httpx.Response:
        raise kind("Bearer secret", request=request)

    return fault
