"""The micro-batches of a run that samples: scored sets of the student's own responses, step by step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from pad_student.data.prompts import PromptLine
from pad_student.errors import EndedByAnother
from pad_student.model.distributed.processes import fail_together, gather_from_all, wait_for_all
from pad_student.model.distributed.step_weights import StepPlan
from pad_student.on_policy.costs import Costs
from pad_student.on_policy.rounds import Rounds
from pad_student.on_policy.schedule import Batches, NextPrompts, RoundSchedule, StepSets
from pad_student.preference.config import PADConfig
from pad_student.preference.copies import copy_metrics
from pad_student.sampling.vllm_server import SamplerError
from pad_student.storage.contents import digest_of
from pad_student.teacher.client import Teacher
from pad_student.teacher.errors import TeacherError
from pad_wire import ScoredSet
from pad_wire.chat import ChatEncoder

RandomState = tuple[Tensor, list[Tensor]]
Result = TypeVar("Result")


class OnPolicySource:
    """Gives the Trainer one optimiser step's micro-batches at a time.

    Invariants:
        - An error in one process is raised in all of them, at the same step.
        - If the teacher or the sampling server fails, the finished steps are saved in a checkpoint first.
        - Every set of a step weighs the same, and a micro-batch without sets nothing.
        - That checkpoint's random state is the one from before the step, which will be done again from its start.

    Args:
        schedule: begins rounds and gives each step's sets.
        output_dir: where checkpoints are.
        batch_of: makes a micro-batch's tensors from its sets.
        gathered_weights: makes sharded weights whole while the student samples; collective.
        save_checkpoint: writes ``checkpoint-STEP``; collective.
        waits_for_steps: whether a step's first micro-batch waits for the scores of its last one: gradients that are
            gone after each backward pass, as DeepSpeed's, cannot be rescaled at the end of the step.
    """

    def __init__(
        self,
        schedule: RoundSchedule,
        output_dir: Path,
        batch_of: Callable[[list[ScoredSet]], dict[str, Any]],
        gathered_weights: Callable[[], AbstractContextManager[None]],
        save_checkpoint: Callable[[], None],
        waits_for_steps: bool = False,
    ) -> None:
        self._schedule = schedule
        self._output_dir = output_dir
        self._batch_of = batch_of
        self._gathered_weights = gathered_weights
        self._save_checkpoint = save_checkpoint
        self._waits_for_steps = waits_for_steps
        self._step = 0
        self._random_state = _random_state()

    def batches(self, step: int, last: int, prompts: NextPrompts, model: Any) -> tuple[Batches, int] | None:
        """The micro-batches of ``step``, each made when it is taken, and how many steps ago they were sampled.

        Args:
            step: the next step.
            last: the run's number of steps.
            prompts: gives the next step's micro-batches of prompts, none at the end of an epoch.
            model: the student, not wrapped.

        Returns:
            None at the end of an epoch.

        Raises:
            SamplerError: if the sampling server failed; the finished steps are saved.
            SamplingError: if the student cannot sample.
            JsonLinesError: if a round cannot be written or read.
            EndedByAnother: if another process failed.
        """
        self._step, self._random_state = step, _random_state()
        try:
            with self._gathered_weights():
                sets = fail_together(lambda: self._schedule.sets_of(step, last, prompts, model))
        except (SamplerError, KeyboardInterrupt):  # in one process alone, so there is no other one to fail
            self._save_for_a_rerun()
            raise
        except Exception as error:
            self._save_if_the_teacher_failed(error)
            raise
        return (Batches(sets, self._make_batches), sets.staleness) if sets else None

    @property
    def refused(self) -> Mapping[str, int]:
        """This process's sets that the teacher refused, by the code of the refusal."""
        return self._schedule.refused

    def stop(self) -> None:
        """Have nothing more scored; the rounds on disk can be continued."""
        self._schedule.stop()

    def _make_batches(self, sets: StepSets) -> Iterator[dict[str, Any]]:
        plan = planned = StepPlan.of(sets.ids)
        own = [name for place, name in enumerate(sets.ids) if place not in plan.repeated]
        # A set of one text has no gradient: it counts in the step's mean without being computed.
        skipped = [name for name in own if name in sets.skipped]
        waiting, found = sets.without(plan.repeated), len(skipped)
        if memory := self._schedule.memory:
            memory.begin_step(skipped)
        if self._waits_for_steps:
            whole = self._wait_for(lambda: list(waiting))
            plan = StepPlan.of([*skipped, *(each.id for part in whole for each in part)])
            waiting = iter(whole)
        for place in range(len(sets)):
            scored, batch = self._wait_for(lambda: (scored := next(waiting), self._batch_of(scored)))
            found += len(scored)
            last: dict[str, Any] = {}
            if place == len(sets) - 1:
                factor = planned.rescaled(found, sets.left_out)
                shares = copy_metrics([sets.responses[name] for name in own if name in sets.responses])
                last = {"rescale": 1.0 if self._waits_for_steps else factor}
                last |= {"noted": [({"share/refused": 1 - 1 / factor}, 1), (shares, len(own))]}
                last["noted"] += [sets.adapted()] if self._schedule.adapts else []
            if memory:
                last |= {"taught": memory.taker(self._step, [each.id for each in scored], place == len(sets) - 1)}
            yield batch | {"weight": plan.weight(len(scored))} | last

    def _wait_for(self, work: Callable[[], Result]) -> Result:
        try:
            return fail_together(work)
        except KeyboardInterrupt:
            self._save_for_a_rerun()
            raise
        except Exception as error:
            self._save_if_the_teacher_failed(error)
            raise

    def _save_if_the_teacher_failed(self, error: Exception) -> None:
        if all(gather_from_all(isinstance(error, TeacherError | EndedByAnother))):
            self._save_for_a_rerun()

    def _save_for_a_rerun(self) -> None:
        """Save the finished steps: the teacher, or the sampling server, may be away for long."""
        saved = (self._output_dir / f"checkpoint-{self._step}").exists()
        if self._step and not any(gather_from_all(saved)):
            _restore(self._random_state)
            self._save_checkpoint()
            wait_for_all()  # a launcher ends all processes when the first one ends


def open_schedule(
    teacher: Teacher,
    encoder: ChatEncoder,
    config: PADConfig,
    costs: Costs,
    prompts: Sequence[PromptLine],
    model_name: str,
    prompts_per_step: int,
) -> RoundSchedule:
    """Open the run's rounds in its output directory, new or begun by an earlier start.

    Raises:
        OtherRun: if the rounds on disk were made with other settings, prompts or another model.
        TeacherChanged: if another teacher scored the rounds on disk.
        ConfigError: if several processes would share one sampling server.
    """
    folder = Path(str(config.output_dir)) / "rounds"
    rounds = Rounds(teacher, encoder, config, folder, config.process_index)
    rounds.bind_to_settings(
        model=model_name,
        prompts_digest=digest_of([each.model_dump(exclude_none=True) for each in prompts]),
        prompts_per_step=prompts_per_step,
        processes=config.world_size,
    )
    return RoundSchedule(rounds, config, costs)


def _random_state() -> RandomState:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore(state: RandomState) -> None:
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])


# pyright: standard
