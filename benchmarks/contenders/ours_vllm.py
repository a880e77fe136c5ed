"""Our engine on vLLM, whose model runs in other processes: all sets in one call, with an empty prefix cache."""

from contextlib import ExitStack
from functools import partial

from benchmarks.contenders import our_engine, vllm_engine
from benchmarks.contenders.worker import Job, LoadedContender, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    engine = our_engine.on_vllm(job)
    stack.callback(engine.close)
    parts = our_engine.parts_of(engine, job, before=partial(our_engine.forget_prompts, engine))
    return LoadedContender(parts, vllm_engine.packages(), scorer=our_engine.scorer_of_vllm())


if __name__ == "__main__":
    run_worker(load)
