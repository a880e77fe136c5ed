"""Plain transformers with the same weights in float32, whatever the others run in: what both engines are held to."""

from contextlib import ExitStack
from dataclasses import replace

from full_logits import choose, load_model, score
from worker import Job, Part, Way, work


def load(job: Job, stack: ExitStack) -> Way:
    model, sets = load_model(replace(job, dtype="float32")), job.sets

    def likelihood() -> list[list[list[float]]]:
        return [[score(model, item["prompt_ids"], [ids])[0] for ids in item["response_ids"]] for item in sets]

    def cyclic() -> list[list[list[float]]]:
        return [[choose(model, asked) for asked in item["cyclic"]] for item in sets]

    parts = {"likelihood": Part(likelihood, lambda found: found)}
    if job.selection:
        parts["cyclic"] = Part(cyclic, lambda found: found)
    return Way(parts)


if __name__ == "__main__":
    work(load)
