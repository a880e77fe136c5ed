"""The PAD authors' offline scripts: one prompt at a time, one forward pass for each response and each pair.

The likelihood of each response comes from the full logits of prompt and response. The teacher is then asked about
each of the n(n-1)/2 pairs in one order, and the letters' log-probabilities are read. The question is ours, so that
both sides read the same text.
"""

from contextlib import ExitStack

from benchmarks.contenders.full_logits import choose, load_model, score
from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    model, sets = load_model(job), job.sets

    def likelihood() -> list[list[list[float]]]:
        return [[score(model, item["prompt_ids"], [ids])[0] for ids in item["response_ids"]] for item in sets]

    def pairwise() -> list[list[list[float]]]:
        return [[choose(model, question) for question in item["pairwise"]] for item in sets]

    score(model, sets[0]["prompt_ids"], sets[0]["response_ids"][:1])
    parts = {"likelihood": Part(likelihood, log_probs=lambda found: found)}
    if job.selection:
        parts["pairwise"] = Part(pairwise)
    return LoadedContender(parts)


if __name__ == "__main__":
    run_worker(load)
