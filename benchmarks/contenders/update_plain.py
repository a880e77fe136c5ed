"""A plain loop's step: the n responses of a prompt as a padded batch, the prompt repeated in each, full logits."""

from contextlib import ExitStack

import torch

from benchmarks.contenders.updating import held_bytes, load_student, update_contender
from benchmarks.contenders.worker import Job, LoadedContender, run_worker
from pad_student.preference.losses import ppd


def load(job: Job, stack: ExitStack) -> LoadedContender:
    baseline = held_bytes()
    model, sets = load_student(job), job.sets

    def gradient() -> None:
        for item in sets:
            rows = [item["prompt_ids"] + ids for ids in item["response_ids"]]
            longest, prompt = max(map(len, rows)), len(item["prompt_ids"])
            ids_B_L = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            mask_B_L = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
            logits_B_L_V = model(input_ids=ids_B_L, attention_mask=mask_B_L, use_cache=False).logits
            log_p_B_L = logits_B_L_V[:, :-1].log_softmax(-1).gather(-1, ids_B_L[:, 1:, None])[..., 0]
            response_B_L = mask_B_L[:, 1:].bool() & (torch.arange(1, longest) >= prompt)
            mean_B = (log_p_B_L * response_B_L).sum(1) / response_B_L.sum(1)
            teacher_1_B = torch.arange(len(rows), dtype=torch.float32)[None]
            (ppd(teacher_1_B, 2 * mean_B[None]).mean() / len(sets)).backward()

    return update_contender(model, job, baseline, gradient, ("torch", "transformers"))


if __name__ == "__main__":
    run_worker(load)
