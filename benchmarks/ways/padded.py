"""A padded batch: the n responses of a set together, padded on the right, full logits."""

from contextlib import ExitStack

from full_logits import load_model, score
from worker import Job, Part, Way, work


def load(job: Job, stack: ExitStack) -> Way:
    model, sets = load_model(job), job.sets

    def run() -> list[list[list[float]]]:
        return [score(model, item["prompt_ids"], item["response_ids"]) for item in sets]

    score(model, sets[0]["prompt_ids"], sets[0]["response_ids"][:1])
    return Way({"likelihood": Part(run, log_probs=lambda found: found)})


if __name__ == "__main__":
    work(load)
