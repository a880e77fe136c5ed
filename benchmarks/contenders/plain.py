"""Plain transformers: one (prompt, response) at a time, full logits, log-softmax, gather."""

from contextlib import ExitStack

from benchmarks.contenders.full_logits import load_model, score
from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    model, sets = load_model(job), job.sets

    def run() -> list[list[list[float]]]:
        return [[score(model, item["prompt_ids"], [ids])[0] for ids in item["response_ids"]] for item in sets]

    score(model, sets[0]["prompt_ids"], sets[0]["response_ids"][:1])
    return LoadedContender({"likelihood": Part(run, log_probs=lambda found: found)})


if __name__ == "__main__":
    run_worker(load)
