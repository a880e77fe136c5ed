"""TRL's DPO step on pairs of the same tokens. Its reference is precomputed, which is the least work for it."""

from contextlib import ExitStack

from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from benchmarks.contenders.updating import arguments, held_bytes, load_student, update_contender
from benchmarks.contenders.worker import Job, LoadedContender, run_worker


def load(job: Job, stack: ExitStack) -> LoadedContender:
    baseline = held_bytes()
    model, tokenizer = load_student(job), AutoTokenizer.from_pretrained(job.model)
    pairs = [
        {"prompt_ids": item["prompt_ids"], "chosen_ids": chosen, "rejected_ids": rejected}
        | {"ref_chosen_logps": -100.0, "ref_rejected_logps": -100.0}
        for item in job.sets
        for chosen, rejected in zip(item["response_ids"][::2], item["response_ids"][1::2], strict=True)
    ]
    unused = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])  # the trainer requires a data set
    config = DPOConfig(**arguments(), precompute_ref_log_probs=True, max_length=None)
    trainer = DPOTrainer(model, args=config, train_dataset=unused, processing_class=tokenizer)
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer.data_collator(pairs)
    packages = ("torch", "transformers", "trl")
    return update_contender(model, job, baseline, lambda: trainer.training_step(model, dict(inputs)), packages)


if __name__ == "__main__":
    run_worker(load)
