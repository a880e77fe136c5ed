"""The scoring routes. Each reads bytes, plans, waits for the engine and replies with bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from pad_teacher.admission.client import Client
from pad_teacher.api.body import BodyMemory, deadline_of, received_body, unless_client_leaves
from pad_teacher.api.call import ScoringCall
from pad_teacher.api.chunked_json import ChunkedReply
from pad_teacher.api.pages.openapi import route_options
from pad_teacher.api.reading import read_request
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.completions import plan_completions
from pad_teacher.scoring.likelihood import plan_likelihood
from pad_teacher.scoring.plan import Plan, PlanBudget
from pad_teacher.scoring.score import plan_score
from pad_teacher.scoring.selection import plan_selection
from pad_teacher.scoring.teacher import AnyTeacher, Teacher
from pad_teacher.scoring.tensors import read_tensor_request
from pad_teacher.scoring.token_logprobs import plan_token_logprobs
from pad_teacher.service import Service
from pad_wire import LikelihoodReply, LikelihoodRequest, ScoreReply, ScoreRequest, SelectionReply, SelectionRequest
from pad_wire.completions import CompletionReply, CompletionRequest
from pad_wire.text import WireModel
from pad_wire.token_logprobs import SAFETENSORS, TokenLogprobsReply, TokenLogprobsRequest


@dataclass(frozen=True, slots=True)
class ScoringRoute:
    """One scoring route: its models, and the function that plans its requests."""

    name: str
    request: type[WireModel]
    reply: type[WireModel]
    plan: Callable[..., Steps[Plan]]  # of the teacher, a request of that model, and a budget
    summary: str
    tensors: bool = False  # whether request and reply may be safetensors
    body_share: float = 1.0  # of the largest body: many numbers in JSON take far longer to read than texts


ROUTES = (
    ScoringRoute(
        "likelihood", LikelihoodRequest, LikelihoodReply, plan_likelihood, "Log-likelihood of each response"
    ),
    ScoringRoute(
        "selection", SelectionRequest, SelectionReply, plan_selection, "Which response the teacher would pick"
    ),
    ScoringRoute("score", ScoreRequest, ScoreReply, plan_score, "Likelihood and selection in one call"),
    ScoringRoute(
        "completions",
        CompletionRequest,
        CompletionReply,
        plan_completions,
        "OpenAI's form, for scoring harnesses",
        body_share=0.5,
    ),
    ScoringRoute(
        "token_logprobs",
        TokenLogprobsRequest,
        TokenLogprobsReply,
        plan_token_logprobs,
        "Distribution over the next token at each scored token",
        tensors=True,
        body_share=0.5,
    ),
)


def scoring_routes(service: Service, bodies: BodyMemory) -> APIRouter:
    """The scoring routes of ``service``."""
    router = APIRouter(tags=["scoring"])
    for route in ROUTES:
        described: dict[str, Any] = route_options(route.name, route.reply, route.request, tensors=route.tensors)
        endpoint = partial(_score, service, bodies, route)
        router.add_api_route(f"/v1/{route.name}", endpoint, methods=["POST"], summary=route.summary, **described)
    return router


async def _score(service: Service, bodies: BodyMemory, route: ScoringRoute, http: Request) -> Response:
    running, settings = service.running, service.settings
    service.refuse_if_draining()
    client: Client = http.state.client
    running.batcher.queue.refuse_unread(client)
    deadline, for_key = deadline_of(http), client.limits.most_tokens
    as_json = not (route.tensors and SAFETENSORS in http.headers.get("accept", "").lower())
    budget = PlanBudget(settings.max_queued_tokens, settings.max_batch_tokens, deadline, for_key, as_json)
    plan = plan_of(route, running.teacher)
    call = ScoringCall(client, running, service.reading, service.metrics)
    try:
        largest = int(settings.max_body_bytes * (1 if _in_tensors(route, http) else route.body_share))
        async with received_body(http, bodies, largest, deadline) as body:
            computing = call.run(partial(_read, route, http, body), plan, budget)
            done = await call.reply(await unless_client_leaves(http, computing, budget.left), as_json=as_json)
    finally:
        call.free()
    service.usage.count(client, done.usage)
    http.state.logged.update(tokens=done.usage.total_tokens, reused_tokens=done.reused_tokens)
    return ChunkedReply(done.body)


def plan_of(route: ScoringRoute, teacher: AnyTeacher) -> Callable[..., Steps[Plan]]:
    """The function that plans the requests of a route for this teacher.

    Raises:
        Refusal: ``unsupported`` if the teacher cannot answer them.
    """
    if isinstance(teacher, Teacher):
        return route.plan
    plan = teacher.plans.get(route.name)
    if plan is None:
        message = "this teacher is behind an API and only chooses: ask /v1/selection, or /v1/score with alpha 1"
        raise Refusal("unsupported", message)
    return plan


def _read(route: ScoringRoute, http: Request, body: bytearray) -> Steps[Any]:
    """The request in ``body``, in JSON or as tensors."""
    if _in_tensors(route, http):
        return read_tensor_request(route.request, body)
    return (yield from read_request(route.request, body))


def _in_tensors(route: ScoringRoute, http: Request) -> bool:
    return route.tensors and http.headers.get("content-type", "").lower().startswith(SAFETENSORS)
