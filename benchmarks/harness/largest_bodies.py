"""Bodies of the largest size that the service takes by default, one for each way to spend it."""

import json
from typing import Any

LARGEST = 2 * 2**20  # bytes; --max-body-bytes, of which completions may have half


def largest_bodies(largest: int = LARGEST) -> dict[str, tuple[str, bytes]]:
    """Route and body, by name. Some are computed, some refused; each is within the limit of bytes."""
    word = "so it goes, "
    half = largest // 2
    few = [_set(f"{k} " + word * 40, [word * 35] * 4) for k in range(largest // 2220)]
    many = [_set(f"{k}", ["a"] * 256) for k in range(min(1024, largest // 1060))]
    wide = [_set(f"{k} " + word * 100, [word * 20] * 4) for k in range(64)]
    biases = {str(k): 0 for k in range(half // 11)}
    asked = {
        "few texts": ("likelihood", {"sets": few}),
        "few texts, every token's number": ("score", {"sets": few, "per_token": True, "unconditional": True}),
        "many texts": ("likelihood", {"sets": many}),
        "many texts, every token's number": ("score", {"sets": many, "per_token": True}),
        "questions in every order": ("selection", {"sets": wide, "orders": "all"}),
        "pairs": ("selection", {"sets": [_set(f"{k}", list("abcdefgh")) for k in range(1024)], "form": "pairwise"}),
        "one prompt": ("likelihood", {"sets": [_set(word * (largest // 12 - 100), ["yes"])]}),
        "one prompt, cut": ("likelihood", {"sets": [_set(word * (largest // 12 - 100), ["yes"])], "truncate": True}),
        "one response": ("score", {"sets": [_set("hi", [word * (largest // 12 - 100), "no"])]}),
        "one response, cut": ("likelihood", {"sets": [_set("hi", [word * (largest // 12 - 100)])], "truncate": True}),
        "a word without end": ("likelihood", {"sets": [_set("a" * (largest - 100), ["yes"])]}),
        "many turns": ("score", {"sets": [_set(_turns(largest // 30 - 10), ["yes", "no"])]}),
        "unknown fields": ("likelihood", {f"x{k}": 0 for k in range(largest // 12)}),
        "unknown fields of a set": ("score", {"sets": [{f"x{k}": 0 for k in range(largest // 12)}]}),
        "sets that are numbers": ("score", {"sets": [0] * (largest // 2 - 20)}),
        "completion of one text": ("completions", _completion(word * (half // 12 - 100))),
        "completions of many texts": ("completions", _completion([word * (half // 12_500)] * 1024)),
        "completion of ids": ("completions", _completion([1] * (half // 2 - 50))),
        "completions of lists of ids": ("completions", _completion([[1] * (half // 2 // 1024 - 4)] * 1024)),
        "unknown fields of a completion": ("completions", {f"x{k}": 0 for k in range(half // 12)}),
        "biases of a completion": ("completions", _completion("hi", logit_bias=biases)),
        "stops of a completion": ("completions", _completion("hi", stop=["a"] * (half // 4 - 50))),
    }
    bodies = {name: (f"/v1/{route}", _compact(body)) for name, (route, body) in asked.items()}
    nested = b'{"sets": ' + b"[" * (largest - 20) + b"}"
    escapes = b'{"sets": [{"prompt": "' + b"\\u00e9" * (largest // 6 - 20) + b'", "responses": ["a"]}]}'
    return bodies | {"brackets": ("/v1/score", nested), "escapes": ("/v1/likelihood", escapes)}


def _set(prompt: Any, responses: list[str]) -> dict[str, Any]:
    return {"prompt": prompt, "responses": responses}


def _turns(count: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "a"}] * count


def _completion(prompt: Any, **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 5, **fields}


def _compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
