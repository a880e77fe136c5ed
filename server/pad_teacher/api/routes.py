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
from pad_teacher.api.chunked_json import ChunkedJson
from pad_teacher.api.openapi import route_options
from pad_teacher.scoring.completions import plan_completions
from pad_teacher.scoring.likelihood import plan_likelihood
from pad_teacher.scoring.plan import Plan, PlanBudget
from pad_teacher.scoring.score import plan_score
from pad_teacher.scoring.selection import plan_selection
from pad_teacher.service import Service
from pad_wire import LikelihoodReply, LikelihoodRequest, ScoreReply, ScoreRequest, SelectionReply, SelectionRequest
from pad_wire.completions import CompletionReply, CompletionRequest
from pad_wire.text import WireModel


@dataclass(frozen=True, slots=True)
class ScoringRoute:
    """One scoring route: its models, and the function that plans its requests."""

    name: str
    request: type[WireModel]
    reply: type[WireModel]
    plan: Callable[..., Plan]  # of the teacher, a request of that model, and a budget
    summary: str


ROUTES = (
    ScoringRoute(
        "likelihood", LikelihoodRequest, LikelihoodReply, plan_likelihood, "Log-likelihood of each response"
    ),
    ScoringRoute(
        "selection", SelectionRequest, SelectionReply, plan_selection, "Which response the teacher would pick"
    ),
    ScoringRoute("score", ScoreRequest, ScoreReply, plan_score, "Likelihood and selection in one call"),
    ScoringRoute(
        "completions", CompletionRequest, CompletionReply, plan_completions, "OpenAI's form, for scoring harnesses"
    ),
)


def scoring_routes(service: Service, bodies: BodyMemory) -> APIRouter:
    """The scoring routes of ``service``."""
    router = APIRouter(tags=["scoring"])
    for route in ROUTES:
        described: dict[str, Any] = route_options(route.reply, route.request)
        endpoint = partial(_score, service, bodies, route)
        router.add_api_route(f"/v1/{route.name}", endpoint, methods=["POST"], summary=route.summary, **described)
    return router


async def _score(service: Service, bodies: BodyMemory, route: ScoringRoute, http: Request) -> Response:
    running, settings = service.running, service.settings
    service.refuse_if_draining()
    client: Client = http.state.client
    running.batcher.queue.refuse_if_full(client)  # before anything is read or tokenised
    budget = PlanBudget(settings.max_queued_tokens, settings.max_batch_tokens, deadline_of(http))
    call = ScoringCall(client, running, service.reading, service.metrics)
    try:
        async with received_body(http, bodies) as body:
            computing = call.run(route.request, route.plan, body, budget)
            done = await call.reply(await unless_client_leaves(http, computing, budget.left))
    finally:
        call.free()
    service.usage.count(client, done.usage)
    http.state.logged.update(tokens=done.usage.total_tokens, reused_tokens=done.reused_tokens)
    return ChunkedJson(done.chunks)
