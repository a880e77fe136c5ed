"""Plain transformers with the same weights in float32: the reference for both engines, whatever their dtype."""

from contextlib import ExitStack
from dataclasses import replace

from benchmarks.contenders.full_logits import choose, load_model, score
from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    model, sets = load_model(replace(job, dtype="float32")), job.sets

    def likelihood() -> list[list[list[float]]]:
        return [[score(model, item["prompt_ids"], [ids])[0] for ids in item["response_ids"]] for item in sets]

    def cyclic() -> list[list[list[float]]]:
        return [[choose(model, asked) for asked in item["cyclic"]] for item in sets]

    parts = {"likelihood": Part(likelihood, lambda found: found)}
    if job.selection:
        parts["cyclic"] = Part(cyclic, lambda found: found)
    return LoadedContender(parts)


if __name__ == "__main__":
    run_worker(load)
