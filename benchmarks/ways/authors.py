"""The way of the PAD authors' offline scripts: prompts one by one, every response and every pair a run of its own.

The likelihood of each response comes from the full logits of prompt and response. Then the teacher is asked about
each of the n(n-1)/2 pairs, in one order, and only the letters after the question are looked at. The question is ours,
so that both sides read the same text.
"""

from contextlib import ExitStack

from full_logits import choose, load_model, score
from worker import Job, Part, Way, work


def load(job: Job, stack: ExitStack) -> Way:
    model, sets = load_model(job), job.sets

    def likelihood() -> list[list[list[float]]]:
        return [[score(model, item["prompt_ids"], [ids])[0] for ids in item["response_ids"]] for item in sets]

    def pairwise() -> list[list[list[float]]]:
        return [[choose(model, question) for question in item["pairwise"]] for item in sets]

    score(model, sets[0]["prompt_ids"], sets[0]["response_ids"][:1])
    parts = {"likelihood": Part(likelihood, log_probs=lambda found: found)}
    if job.selection:
        parts["pairwise"] = Part(pairwise)
    return Way(parts)


if __name__ == "__main__":
    work(load)
