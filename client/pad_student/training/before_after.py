"""Samples for the report: a few prompts, answered by the student before the first step and after the last."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import orjson
import torch
from transformers import TrainerCallback

from pad_student.data.drawn_ids import ids_of
from pad_student.errors import StudentError
from pad_student.model.logprobs import response_log_likelihoods
from pad_student.preference.config import PADConfig
from pad_student.preference.rewards import likelihood_reward, student_normalization
from pad_student.preference.set_rewards import reward_settings
from pad_student.sampling.generate import sample_responses
from pad_student.storage.jsonl import Appender
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.client import Teacher
from pad_student.training.batches import TrainingRow, batch_of, judging_options
from pad_torch.modes import evaluating
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder

logger = logging.getLogger(__name__)

FILE = "shown.jsonl"


class BeforeAfterSamples(TrainerCallback):
    """Keeps ``shown.jsonl``: a line for each chosen prompt at step 0, and another at the last step.

    A line has new ``samples``, and both sides' rewards of the responses ``compared``, which the teacher scored before
    the first step.

    Invariants:
        - Each line is written once, even if the run is started again.
        - An error here never ends a run: it is logged, and the report lists what is missing.
        - Training is the same with and without it.

    Args:
        rows: the dataset; prompts are taken from it at equal distances.
        count: number of prompts.
        encoder: the student's.
        config: how samples are made and scored.
        teacher: scores the samples; None if the rows are scored sets.
        gathered_weights: makes sharded weights whole while the student samples; collective.
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        count: int,
        encoder: ChatEncoder,
        config: PADConfig,
        teacher: Teacher | None,
        gathered_weights: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._rows = [rows[k * len(rows) // count] for k in range(min(count, len(rows)))]
        self._encoder = encoder
        self._config = config
        self._teacher = teacher
        self._gathered_weights = gathered_weights

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Before the first step."""
        if state.global_step == 0:
            self._keep_in_first_process(state, model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """After the last step, or the one at which an early stop ended the run; not if it was interrupted."""
        if state.global_step >= state.max_steps or control.should_training_stop:
            self._keep_in_first_process(state, model)

    def _keep_in_first_process(self, state: Any, model: Any) -> None:
        with self._gathered_weights():
            if state.is_world_process_zero:
                self._keep(model, state.global_step)

    def _keep(self, model: Any, step: int) -> None:
        path = Path(str(self._config.output_dir)) / FILE
        try:
            with Appender(path) as lines, self._phase() as phase:
                if {_line_id(row, step) for row in self._rows} <= lines.held:
                    return
                begun_with = {line["prompt_id"]: line["compared"] for line in _lines_of_step_0(path)}
                for row, samples in zip(self._rows, self._sample(model), strict=True):
                    phase.update()
                    if samples and _line_id(row, step) not in lines.held:
                        lines.append(self._line(model, row, step, samples, begun_with.get(row.id)))
        except StudentError as error:
            logger.warning("the report will lack samples of step %d: %s", step, error)

    def _phase(self) -> Any:
        return STATUS.phase("samples for the report", len(self._rows), stops_at_once=True)

    def _sample(self, model: Any) -> list[list[Response]]:
        """Sample with the same seeds both times, so that a student that learnt nothing gives the same answers."""
        return sample_responses(
            model,
            self._encoder,
            [row.prompt for row in self._rows],
            n=self._config.part_size,
            temperature=self._config.temperature,
            max_new_tokens=self._max_new_tokens(),
            seed=self._config.seed,
            keys=[f"{row.id}@shown" for row in self._rows],
        )

    def _max_new_tokens(self) -> int:
        """The configured length; for scored sets, which have none, the length of their longest response."""
        responses = [each for row in self._rows if isinstance(row, ScoredSet) for each in row.responses]
        if not responses:
            return self._config.max_response_tokens
        return max(map(len, ids_of(self._encoder, responses)))

    def _line(
        self, model: Any, row: TrainingRow, step: int, samples: list[Response], begun_with: dict[str, Any] | None
    ) -> dict[str, Any]:
        scored = self._score(SampledSet(id=row.id, prompt=row.prompt, responses=samples))
        compared = (
            row if isinstance(row, ScoredSet) else ScoredSet.model_validate(begun_with) if begun_with else scored
        )
        line: dict[str, Any] = {"id": _line_id(row, step), "prompt_id": row.id, "step": step}
        line |= {"prompt": _plain(row.prompt), "samples": [each.model_dump(exclude_none=True) for each in samples]}
        if scored:
            line["samples_rewards_teacher"] = self._rewards(model, scored)[0]
        if compared:
            line["compared"] = compared.model_dump(exclude_none=True, exclude={"token_tables"})
            line["rewards_teacher"], line["rewards_student"] = self._rewards(model, compared)
        return line

    def _score(self, samples: SampledSet) -> ScoredSet | None:
        if not self._teacher:
            return None
        return next(iter(self._teacher.score_stream([samples], options=judging_options(self._config))))

    @torch.no_grad()
    def _rewards(self, model: Any, scored: ScoredSet) -> tuple[list[float], list[float]]:
        """The teacher's and the student's rewards of each response, without β."""
        normalization: Any = self._config.normalization
        made = batch_of([scored], self._encoder, **reward_settings(self._config))
        batch = {name: tensor.to(model.device) for name, tensor in made.items()}
        with evaluating(model):
            own = response_log_likelihoods(model, batch["input_ids"], batch["attention_mask"], batch["response_mask"])
        shape = batch["rewards_teacher"].shape
        student = likelihood_reward(
            own.log_likelihood.view(shape),
            own.tokens.view(shape),
            student_normalization(normalization),
            batch["text_bytes"],
        )
        return batch["rewards_teacher"][0].tolist(), student[0].tolist()


def _line_id(row: TrainingRow, step: int) -> str:
    return f"{row.id}@{step}"


def _lines_of_step_0(path: Path) -> list[dict[str, Any]]:
    lines = map(orjson.loads, path.read_bytes().splitlines())
    return [line for line in lines if line["step"] == 0 and "compared" in line]


def _plain(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]


# pyright: standard
