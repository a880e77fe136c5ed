"""vLLM's ``prompt_logprobs`` in its usual form: prompt and response as one request, all requests in one call."""

from contextlib import ExitStack
from typing import Any

from benchmarks.contenders import vllm_engine
from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    llm, sets = vllm_engine.start(job), job.sets
    from vllm import SamplingParams

    asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    requests = [{"prompt_token_ids": item["prompt_ids"] + ids} for item in sets for ids in item["response_ids"]]

    def run() -> list[list[list[float]]]:
        replies: Any = iter(llm.generate(requests, asked, use_tqdm=False))

        def tokens(prompt: list[int], response: list[int]) -> list[float]:
            return vllm_engine.read(next(replies).prompt_logprobs, prompt + response, len(prompt))

        return [[tokens(item["prompt_ids"], ids) for ids in item["response_ids"]] for item in sets]

    llm.generate(requests[:1], asked, use_tqdm=False)
    parts = {"likelihood": Part(run, log_probs=lambda found: found, before=llm.reset_prefix_cache)}
    return LoadedContender(parts, vllm_engine.packages())


if __name__ == "__main__":
    run_worker(load)
