"""``/v1/completions``: OpenAI's form, which lm-evaluation-harness sends to score given texts."""

import time
import uuid
from collections.abc import Sequence
from typing import Any, cast

from pad_teacher.engines.queries import Answer, Echo, EchoLogprobs, Query
from pad_teacher.errors import Refusal
from pad_teacher.runtime.reading_thread import Steps
from pad_teacher.scoring.long_texts import beginning
from pad_teacher.scoring.plan import Plan, PlanBudget, finite_logprobs, usage
from pad_teacher.scoring.teacher import Teacher
from pad_teacher.scoring.token_texts import token_texts
from pad_wire.completions import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionReply,
    CompletionRequest,
    CompletionUsage,
)


def plan_completions(teacher: Teacher, request: CompletionRequest, budget: PlanBudget) -> Steps[Plan]:
    """Plan ``/v1/completions``.

    Raises:
        Refusal: if another model is asked for, or a text has no token, an unknown one, or too many.
    """
    if request.model not in (None, teacher.id.model):
        raise Refusal("not_found", "this service holds another model; see /v1/models", where="model")
    texts = yield from _texts(teacher, request, budget)
    queries: list[Query] = [Echo(ids, max(1, request.logprobs or 0), everywhere=request.echo) for ids in texts]
    prompt = sum(map(len, texts))

    def reply(results: Sequence[Answer]) -> Steps[CompletionReply]:
        choices: list[CompletionChoice] = []
        for index, (ids, result) in enumerate(zip(texts, results, strict=True)):
            choices.append(_choice(teacher, request, index, ids, cast(EchoLogprobs, result)))
            yield
        made = request.max_tokens * len(texts)
        return CompletionReply(
            id=f"cmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=teacher.id.model,
            system_fingerprint=teacher.id.fingerprint,
            choices=choices,
            usage=CompletionUsage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made),
        )

    return Plan(queries, usage(prompt=prompt), reply, [texts])


def _texts(teacher: Teacher, request: CompletionRequest, budget: PlanBudget) -> Steps[list[list[int]]]:
    """The token ids of each prompt; see ``text_ids`` for text."""
    prompts: Any = request.prompt
    if isinstance(prompts, str) or isinstance(prompts[0], int):
        prompts = [prompts]
    limit = teacher.engine.max_context_tokens - request.max_tokens
    texts: list[list[int]] = []
    for index, prompt in enumerate(prompts):
        where = f"prompt[{index}]"
        ids = (yield from _ids_of_text(teacher, prompt, request, where)) if isinstance(prompt, str) else prompt
        if not ids:
            raise Refusal("invalid_request", "the text has no token", where=where)
        if len(ids) > limit:
            raise Refusal("too_long", f"the text has {len(ids)} tokens; {limit} fit the teacher", where=where)
        if max(ids) >= teacher.engine.vocabulary:
            message = f"a token id is past the teacher's vocabulary of {teacher.engine.vocabulary}"
            raise Refusal("invalid_request", message, where=where)
        budget.spend(len(ids), where)
        budget.charge(len(ids), where)
        texts.append(ids)
        yield
    return texts


def _ids_of_text(teacher: Teacher, text: str, request: CompletionRequest, where: str) -> Steps[list[int]]:
    limit = teacher.engine.max_context_tokens
    if len((yield from beginning(teacher, text, limit))) < len(text):
        raise Refusal("too_long", f"the text has far more than the {limit} tokens that fit the teacher", where=where)
    return text_ids(teacher.encoder.tokenizer, text, request.add_special_tokens)


def text_ids(tokenizer: Any, text: str, add_special_tokens: bool) -> list[int]:
    """A text by the tokenizer's defaults, with its special tokens; a BOS that the text begins with is not doubled."""
    ids: list[int] = tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
    bos = tokenizer.bos_token_id
    doubled = bos is not None and ids[:2] == [bos, bos] and text.count(tokenizer.bos_token) < ids.count(bos)
    return ids[1:] if doubled else ids


def _choice(
    teacher: Teacher, request: CompletionRequest, index: int, ids: list[int], scored: EchoLogprobs
) -> CompletionChoice:
    log_probs = finite_logprobs(scored.token_logprobs, f"prompt[{index}]").tolist()
    finite_logprobs(scored.top_logprobs, f"prompt[{index}]")
    # Each token of the reply, its log-probability, and the position that predicts it; nothing predicts the first
    # token of an echoed text.
    rows: list[tuple[int, float | None, int | None]] = []
    if request.echo:
        rows += [(ids[0], None, None), *zip(ids[1:], log_probs, range(len(log_probs)), strict=True)]
    if request.max_tokens:
        rows.append((int(scored.top_ids[-1, 0]), float(scored.top_logprobs[-1, 0]), -1))
    ended = request.max_tokens == 1 and rows[-1][0] == teacher.encoder.end_of_turn
    return CompletionChoice(
        index=index,
        text=teacher.encoder.decode([token for token, _, _ in rows]),
        logprobs=None if request.logprobs is None else _logprobs(teacher, scored, rows, request.logprobs),
        finish_reason="stop" if ended else "length",
    )


def _logprobs(
    teacher: Teacher, scored: EchoLogprobs, rows: Sequence[tuple[int, float | None, int | None]], top: int
) -> CompletionLogprobs:
    tokens, offsets = token_texts([token for token, _, _ in rows], teacher.encoder.decode)
    return CompletionLogprobs(
        tokens=tokens,
        token_logprobs=[log_prob for _, log_prob, _ in rows],
        top_logprobs=[None if at is None else _top(teacher, scored, at) for _, _, at in rows] if top else None,
        text_offset=offsets,
    )


def _top(teacher: Teacher, scored: EchoLogprobs, at: int) -> dict[str, float]:
    """The likeliest tokens at one position; of two that decode to the same text, the likelier one."""
    top: dict[str, float] = {}
    for token, value in zip(scored.top_ids[at].tolist(), scored.top_logprobs[at].tolist(), strict=True):
        top.setdefault(teacher.encoder.decode([token]), value)
    return top
