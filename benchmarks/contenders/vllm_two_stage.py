"""vLLM in two stages with its prefix cache: prompts first, for the first tokens; then prompts with responses.

In the second stage vLLM does not compute the cached rows, so their log-probabilities are uninitialised memory. A
reply counts only if its cached tokens end within the prompt; otherwise the request is repeated uncached.
"""

from contextlib import ExitStack
from typing import Any

from benchmarks.contenders import vllm_engine
from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    llm, sets = vllm_engine.start(job), job.sets
    from vllm import SamplingParams

    whole = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "detokenize": False}
    uncached, cached = SamplingParams(**whole), SamplingParams(**whole, skip_reading_prefix_cache=False)
    prompts = [{"prompt_token_ids": item["prompt_ids"]} for item in sets]
    pairs = [(item["prompt_ids"], ids) for item in sets for ids in item["response_ids"]]
    requests = [{"prompt_token_ids": prompt + ids} for prompt, ids in pairs]
    first_tokens = [_asking_first_tokens(item) for item in sets]

    def run() -> dict[str, Any]:
        asked: Any = llm.generate(prompts, first_tokens, use_tqdm=False)
        firsts = [
            reply.outputs[0].logprobs[0][ids[0]].logprob
            for reply, item in zip(asked, sets, strict=True)
            for ids in item["response_ids"]
        ]
        replies: Any = llm.generate(requests, cached, use_tqdm=False)
        again = [i for i, reply in enumerate(replies) if (reply.num_cached_tokens or 0) > len(pairs[i][0])]
        if again:
            for i, reply in zip(
                again, llm.generate([requests[i] for i in again], uncached, use_tqdm=False), strict=True
            ):
                replies[i] = reply
        rows = iter(
            [first, *vllm_engine.read(reply.prompt_logprobs, prompt + ids, len(prompt) + 1)]
            for first, reply, (prompt, ids) in zip(firsts, replies, pairs, strict=True)
        )
        return {"found": [[next(rows) for _ in item["response_ids"]] for item in sets], "scored_again": len(again)}

    llm.generate(requests[:1], uncached, use_tqdm=False)
    part = Part(
        run,
        log_probs=lambda result: result["found"],
        facts=lambda result: {"scored_again": result["scored_again"]},
        before=llm.reset_prefix_cache,
    )
    return LoadedContender({"likelihood": part}, vllm_engine.packages())


def _asking_first_tokens(item: dict[str, Any]) -> Any:
    """Sampling parameters that ask for the log-probability of each response's first token."""
    from vllm import SamplingParams

    first = sorted({ids[0] for ids in item["response_ids"]})
    return SamplingParams(max_tokens=1, temperature=0, detokenize=False, logprob_token_ids=first)


if __name__ == "__main__":
    run_worker(load)
