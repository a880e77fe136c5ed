"""Our trainer's step: each prompt computed once, logits in blocks."""

from contextlib import ExitStack

from transformers import AutoTokenizer

from benchmarks.contenders.updating import arguments, held_bytes, load_student, update_contender
from benchmarks.contenders.worker import Job, LoadedContender, run_worker
from pad_student.preference.config import PADConfig
from pad_student.training.batches import batch_of
from pad_student.training.trainer import PADTrainer
from pad_wire import ScoredResponse, ScoredSet, TeacherId
from pad_wire.chat import ChatEncoder


def load(job: Job, stack: ExitStack) -> LoadedContender:
    baseline = held_bytes()
    model, tokenizer = load_student(job), AutoTokenizer.from_pretrained(job.model)
    teacher = TeacherId(model="none", fingerprint="none")
    sets = [
        ScoredSet(
            id=str(k),
            prompt=item["prompt"],
            responses=[
                ScoredResponse(
                    text=text,
                    log_likelihood=-100.0 - i,
                    tokens=100,
                    mean_log_likelihood=-1 - i / 100,
                    selection_probability=0.25,
                )
                for i, text in enumerate(item["responses"])
            ],
            label_mass=1.0,
            teacher=teacher,
        )
        for k, item in enumerate(job.sets)
    ]
    most = job.options.get("max_forward_tokens")
    config = PADConfig(**arguments(), n=len(sets[0].responses), max_forward_tokens=most)
    trainer = PADTrainer(model, config, sets, tokenizer)
    trainer.current_gradient_accumulation_steps = 1
    inputs = batch_of(sets, ChatEncoder.of(tokenizer), alpha=config.alpha)
    packages = ("torch", "transformers")
    return update_contender(model, job, baseline, lambda: trainer.training_step(model, dict(inputs)), packages)


if __name__ == "__main__":
    run_worker(load)
