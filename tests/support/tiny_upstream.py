"""The tiny world's teacher as a chat API: what a real server would return for it, log-probabilities or votes."""

import math
import random
import threading
from collections.abc import Callable

from pad_teacher.engines.queries import Echo, EchoLogprobs
from pad_teacher.scoring.teacher import Teacher
from pad_wire.sets import Message
from support.stub_upstream import Answer, Body, error, said

ALL = 64  # tokens that a vote is drawn from: they have all but a millionth


def chat_api(teacher: Teacher, *, logprobs: bool = True, seed: int = 0) -> Callable[[Body], Answer]:
    """Answers of one token; without ``logprobs`` it refuses to tell them."""
    lock, draw = threading.Lock(), random.Random(seed)

    def answer(body: Body) -> Answer:
        if body.get("logprobs") and not logprobs:
            return error(400, "unsupported_parameter")
        turns = [Message(**each) for each in body["messages"]]
        begun = turns.pop().content if turns[-1].role == "assistant" else ""
        with lock:  # a tokenizer is for one thread
            ids = teacher.encoder.prefilled_ids(turns, begun)
            (found,) = teacher.engine.score([Echo(ids, ALL, everywhere=False)])
        assert isinstance(found, EchoLogprobs)
        tokens = [teacher.encoder.decode([i]) for i in found.top_ids[-1].tolist()]
        top = [(t, math.exp(value)) for t, value in zip(tokens, found.top_logprobs[-1].tolist(), strict=True)]
        if body.get("logprobs"):
            return said(top[0][0], top[: body["top_logprobs"]])
        return said(draw.choices(tokens, [chance for _, chance in top])[0])

    return answer
