"""lm-evaluation-harness' own scorer of Hugging Face models, which its log-likelihood tasks call."""

from contextlib import ExitStack

import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from benchmarks.contenders.full_logits import load_model
from benchmarks.contenders.worker import Job, LoadedContender, Part, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    sets = job.sets
    scorer = HFLM(
        pretrained=load_model(job),
        tokenizer=AutoTokenizer.from_pretrained(job.model),
        batch_size=job.options["lm_eval_batch_size"],
    )
    requests = [(("", ""), item["prompt_ids"], ids) for item in sets for ids in item["response_ids"]]

    def means(sums: list[tuple[float, bool]]) -> list[list[list[float]]]:
        """The mean of each response: HFLM returns one sum a response and no tokens."""
        rest = iter(sums)
        return [[[next(rest)[0] / len(ids)] for ids in item["response_ids"]] for item in sets]

    @torch.inference_mode()
    def run() -> list[tuple[float, bool]]:
        return scorer._loglikelihood_tokens(requests, disable_tqdm=True)

    scorer._loglikelihood_tokens(requests[:1], disable_tqdm=True)
    packages = ("torch", "transformers", "lm-eval")
    return LoadedContender({"likelihood": Part(run, log_probs=means)}, packages)


if __name__ == "__main__":
    run_worker(load)
