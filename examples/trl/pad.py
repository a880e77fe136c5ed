"""Preference-Aligned Distillation in a training script of TRL's kind: your own loop, this project's loss.

    python examples/trl/pad.py --model_name_or_path examples/tinyworld/student --dataset_name runs/scored.jsonl \
        --output_dir runs/trl --learning_rate 1e-3 --per_device_train_batch_size 16 --max_steps 40

Only the last lines need TRL. P prompts with N responses each make a batch; L is the longest row.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from pad_student.model.checks import check_against_full_logits
from pad_student.model.logprobs import (
    collate,
    response_log_likelihoods,
    use_defined_attention,
    why_not_shared,
)
from pad_student.preference.losses import LOSSES
from pad_student.preference.rewards import calibrated_reward, likelihood_reward
from pad_student.storage import jsonl
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder


@dataclass
class PreferenceConfig(TrainingArguments):
    """transformers.TrainingArguments with the settings of the loss."""

    loss: str = field(default="ppd", metadata={"help": "one of " + ", ".join(LOSSES)})
    alpha: float = field(default=0.8, metadata={"help": "weight of the log selection probability in the reward"})
    beta_teacher: float = field(default=10.0, metadata={"help": "sharpness of the teacher's preferences"})
    beta_student: float = field(default=2.0, metadata={"help": "sharpness of the student's preferences"})
    max_forward_tokens: int | None = field(default=None, metadata={"help": "bounds the memory of a forward pass"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "rows are scored sets"})


@dataclass
class ScoredSetCollator:
    """From scored sets, each with N responses, to tensors: the student's tokens and the teacher's rewards."""

    encoder: ChatEncoder
    alpha: float

    def __call__(self, sets: list[ScoredSet]) -> dict[str, torch.Tensor]:
        prompt_ids, response_ids = [], []
        for each in sets:
            prompt_ids += [self.encoder.prompt_ids(each.prompt)] * len(each.responses)
            texts, finished = zip(*((response.text, response.finished) for response in each.responses), strict=True)
            response_ids += self.encoder.response_ids(texts, finished)
        rewards_P_N = calibrated_reward(
            torch.tensor([[response.log_likelihood for response in each.responses] for each in sets]),
            torch.tensor([[response.tokens for response in each.responses] for each in sets]),
            [[response.selection_probability for response in each.responses] for each in sets],
            self.alpha,
        )
        batch = collate(prompt_ids, response_ids, pad_id=self.encoder.end_of_turn)
        return {**batch._asdict(), "rewards_teacher": rewards_P_N}


class PreferenceTrainer(Trainer):
    """A transformers.Trainer, as TRL's are, with its own loss."""

    def __init__(self, model: Any, args: PreferenceConfig, **kwargs: Any) -> None:
        use_defined_attention(model)
        check_against_full_logits(model)  # the shortcut past full logits is right for this model, or an error
        self.shares_prompts = not args.gradient_checkpointing and why_not_shared(model) is None
        super().__init__(model=model, args=args, **kwargs)
        self.loss_is_scaled_for_ga = False  # the loss is a mean over a micro-batch's prompts

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        rewards_teacher_P_N = inputs["rewards_teacher"]
        rows = (inputs["input_ids"], inputs["attention_mask"], inputs["response_mask"])
        with self.accelerator.autocast():
            student = response_log_likelihoods(
                model, *rows, shared=self.shares_prompts, max_tokens=self.args.max_forward_tokens
            )
        shape = rewards_teacher_P_N.shape
        rewards_student_P_N = likelihood_reward(student.log_likelihood.view(shape), student.tokens.view(shape))
        loss_P = LOSSES[self.args.loss](
            self.args.beta_teacher * rewards_teacher_P_N, self.args.beta_student * rewards_student_P_N
        )
        return (loss_P.mean(), {"rewards": rewards_student_P_N}) if return_outputs else loss_P.mean()


def main(script_args: Any, training_args: PreferenceConfig, model_args: Any, peft_config: Any = None) -> Trainer:
    """Train on the scored sets of ``--dataset_name``, as ``pad-student score`` writes them."""
    sets = list(jsonl.read(Path(script_args.dataset_name), ScoredSet))
    if len({len(each.responses) for each in sets}) != 1:
        raise SystemExit(f"{script_args.dataset_name}: all sets must have the same number of responses")
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path, dtype=model_args.dtype)
    if peft_config is not None:
        from peft import get_peft_model

        model = get_peft_model(model, peft_config)
    trainer = PreferenceTrainer(
        model,
        training_args,
        train_dataset=sets,
        data_collator=ScoredSetCollator(ChatEncoder.of(tokenizer), training_args.alpha),
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model(training_args.output_dir)
    return trainer


if __name__ == "__main__":
    from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config

    parser = TrlParser((ScriptArguments, PreferenceConfig, ModelConfig))
    script_args, training_args, model_args = parser.parse_args_and_config()
    main(script_args, training_args, model_args, get_peft_config(model_args))
