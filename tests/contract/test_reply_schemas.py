"""Every reply of every route, against the service's own OpenAPI description, as a generated client reads it."""

from itertools import product
from typing import Any, get_args

import anyio
import httpx
import jsonschema
import pytest

from pad_teacher.api.chunked_json import leaves_out_none
from pad_wire import LikelihoodReply, ModelCard, ModelList, ScoreReply, SelectionReply, UsageReply
from pad_wire.completions import CompletionReply
from pad_wire.text import WireModel
from support.app import Running

pytestmark = pytest.mark.anyio

SETS = [{"prompt": "hi", "responses": ["yes", {"text": "no", "finished": False}]}]
LONG = [{"id": "a", "prompt": "hi", "responses": ["x" * 3000, "y"]}]
LIKELIHOOD = [
    {"sets": sets, "per_token": each, "unconditional": relative, "truncate": True}
    for sets, each, relative in product((SETS, LONG), (False, True), (False, True))
]
SELECTION = [
    {"sets": SETS, "form": form, "orders": orders}
    for form, orders in product(("listwise", "pairwise"), ("single", "cyclic", "both", "all"))
]
COMPLETIONS = [
    {"prompt": prompt, "echo": echo, "logprobs": logprobs, "max_tokens": count}
    for prompt, echo, logprobs, count in product(
        ("A👍", ["A", "BC"], [[65, 66]]), (False, True), (None, 0, 2), (0, 1)
    )
]
ASKED: dict[str, list[dict[str, Any]]] = {
    "/v1/likelihood": LIKELIHOOD,
    "/v1/selection": SELECTION,
    "/v1/score": [*({"alpha": 0.5} | body for body in SELECTION), {"sets": SETS, "per_token": True}],
    "/v1/token_logprobs": [{"sets": SETS, "top": 3}],
    "/v1/completions": COMPLETIONS,
}
WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/score", {"content": b"{"}),
    ("POST", "/v1/score", {"json": {}}),
    ("POST", "/v1/score", {"content": b" " * 3_000_000}),
    ("POST", "/v1/score", {"json": {"sets": SETS}, "headers": {"X-Deadline-Ms": "soon"}}),
    ("POST", "/v1/likelihood", {"json": {"sets": LONG}}),
    ("POST", "/v1/completions", {"json": {"prompt": "A", "model": "gpt-4"}}),
    ("POST", "/v1/completions", {"json": {"prompt": "A", "max_tokens": 16}}),
    ("GET", "/v1/models/gpt-4", {}),
    ("GET", "/v1/models", {"headers": {"Host": "evil.example"}}),
]
SEEN = ("/v1/models", "/v1/models/fake", "/v1/usage", "/v1/health/live", "/v1/health/ready", "/health")


class Described:
    """The description of a running service."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def check(self, method: str, path: str, reply: httpx.Response) -> str:
        """Refuse a reply that the description does not have; the route's path in the description."""
        route = next(each for each in sorted(self.document["paths"]) if path == each or _fits(each, path))
        described = self.document["paths"][route][method.lower()]["responses"][str(reply.status_code)]
        schema = described["content"]["application/json"]["schema"] | {"components": self.document["components"]}
        check: Any = jsonschema.Draft202012Validator(schema)
        check.validate(reply.json())
        assert set(described["headers"]) >= {"X-Request-Id"}
        for name, header in described["headers"].items():
            if name in reply.headers:
                value: Any = reply.headers[name]
                jsonschema.validate(int(value) if header["schema"]["type"] == "integer" else value, header["schema"])
        return str(route)


def _fits(route: str, path: str) -> bool:
    return "{" in route and path.startswith(route.partition("{")[0])


@pytest.fixture
async def described(client: httpx.AsyncClient) -> Described:
    return Described((await client.get("/openapi.json")).json())


async def test_every_reply_has_the_shape_that_is_described(client: httpx.AsyncClient, described: Described) -> None:
    answered: set[str] = set()
    for path, bodies in ASKED.items():
        for body in bodies:
            reply = await client.post(path, json=body)
            assert reply.status_code == 200, reply.text
            answered.add(described.check("POST", path, reply))
    for path in SEEN:
        reply = await client.get(path)
        assert reply.status_code == 200, reply.text
        answered.add(described.check("GET", path, reply))
    assert answered == set(described.document["paths"])


@pytest.mark.parametrize("case", range(len(WRONG)))
async def test_every_error_has_the_shape_that_is_described(
    client: httpx.AsyncClient, described: Described, case: int
) -> None:
    method, path, sent = WRONG[case]
    reply = await client.request(method, path, **sent)
    assert reply.status_code >= 400
    described.check(method, path, reply)


async def test_a_starting_service_answers_as_described(running: Running, described: Described) -> None:
    def fail() -> object:
        raise RuntimeError("no weights")

    async with running(load=fail) as (client, service):
        while service.status == "starting":
            await anyio.sleep(0.001)
        for path in ("/v1/models", "/health", "/v1/health/ready"):
            reply = await client.get(path)
            assert reply.status_code == 503
            described.check("GET", path, reply)


def models_in(model: type[WireModel]) -> set[type[WireModel]]:
    found, left = {model}, [field.annotation for field in model.model_fields.values()]
    while left:
        kind: Any = left.pop()
        if isinstance(kind, type) and issubclass(kind, WireModel):
            found |= models_in(kind)
        left += get_args(kind)
    return found


REPLIES = (LikelihoodReply, SelectionReply, ScoreReply, CompletionReply, ModelList, ModelCard, UsageReply)


@pytest.mark.parametrize("reply", REPLIES)
def test_no_reply_mixes_nulls_and_fields_left_out(reply: type[WireModel]) -> None:
    """One model sends null for None or leaves the field out; a model that did both could lose a required field."""
    for model in models_in(reply):
        if leaves_out_none(model):
            for name, field in model.model_fields.items():
                nullable = type(None) in get_args(field.annotation)
                assert not (field.is_required() and nullable), f"{model.__name__}.{name}"


async def test_operations_have_short_names_of_their_own(described: Described) -> None:
    """Generated clients make functions of them."""
    names = [
        operation["operationId"] for methods in described.document["paths"].values() for operation in methods.values()
    ]
    assert sorted(names) == [
        "completions",
        "health",
        "likelihood",
        "live",
        "model",
        "models",
        "ready",
        "score",
        "selection",
        "token_logprobs",
        "usage",
    ]


async def test_load_balancers_may_ask_with_head(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/health/live", "/v1/health/ready"):
        assert (await client.head(path)).status_code == 200
