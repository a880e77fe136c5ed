"""Our engine on vLLM, whose model runs in processes of its own: all sets in one call, no prompt known before."""

from contextlib import ExitStack
from functools import partial

import our_engine
import vllm_engine
from worker import Job, Way, work


def load(job: Job, stack: ExitStack) -> Way:
    engine = our_engine.on_vllm(job)
    stack.callback(engine.close)
    parts = our_engine.parts_of(engine, job, before=partial(our_engine.forget_prompts, engine))
    return Way(parts, vllm_engine.packages(), scorer=our_engine.scorer_of_vllm())


if __name__ == "__main__":
    work(load)
