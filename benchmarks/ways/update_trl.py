"""TRL's DPO step on pairs of the same tokens, its reference computed beforehand, which is the less work for it."""

from contextlib import ExitStack

from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer
from updating import arguments, held_bytes, load_student, way
from worker import Job, Way, work


def load(job: Job, stack: ExitStack) -> Way:
    baseline = held_bytes()
    model, tokenizer = load_student(job), AutoTokenizer.from_pretrained(job.model)
    pairs = [
        {"prompt_ids": item["prompt_ids"], "chosen_ids": chosen, "rejected_ids": rejected}
        | {"ref_chosen_logps": -100.0, "ref_rejected_logps": -100.0}
        for item in job.sets
        for chosen, rejected in zip(item["response_ids"][::2], item["response_ids"][1::2], strict=True)
    ]
    words = Dataset.from_list(
        [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    )  # the trainer wants some to begin with
    config = DPOConfig(**arguments(), precompute_ref_log_probs=True, max_length=None)
    trainer = DPOTrainer(model, args=config, train_dataset=words, processing_class=tokenizer)
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer.data_collator(pairs)
    return way(
        model, job, baseline, lambda: trainer.training_step(model, dict(inputs)), ("torch", "transformers", "trl")
    )


if __name__ == "__main__":
    work(load)
