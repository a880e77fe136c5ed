"""Which evaluation held-out rows ask for: answers to prompts, or scored sets."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pad_student.data.prompts import PromptLine
from pad_student.evaluation.grading import Grader
from pad_student.preference.config import PADConfig
from pad_student.teacher.client import Teacher
from pad_student.training.batches import as_rows
from pad_student.training.heldout.answers import HeldOutAnswers
from pad_student.training.heldout.sets import HeldOutSets
from pad_student.training.methods import method_of
from pad_student.training.usable import usable_rows
from pad_wire.chat import ChatEncoder


class Evaluation(Protocol):
    """An evaluation of the student during training.

    Attributes:
        best: the metric that decides which checkpoint is the best, and whether more of it is better.
    """

    best: tuple[str, bool]

    def begin(self, model: Any, step: int) -> None:
        """Before the first step of a start, or the first ``measure`` outside of training; collective."""
        ...

    def measure(self, model: Any, step: int) -> dict[str, float]:
        """The metrics of the present student, without the prefix ``eval_``; collective."""
        ...


def evaluation_of(
    dataset: Any,
    model: Any,
    encoder: ChatEncoder,
    config: PADConfig,
    teacher: Teacher | None,
    grader: Grader | None,
    gathered_weights: Callable[[], AbstractContextManager[None]],
) -> Evaluation | None:
    """The evaluation on ``dataset``; None without one. The best metric is its own unless the config names one.

    Args:
        dataset: held-out rows, as ``batches.as_rows`` takes them.
        model: the student.
        encoder: the student's.
        config: the run's.
        teacher: scores the answers to prompts.
        grader: grades them.
        gathered_weights: makes sharded weights whole; collective.

    Raises:
        DatasetError: no row can be used, or prompts have neither a teacher nor a rule.
    """
    if dataset is None:
        return None
    given = as_rows(dataset, name="eval_dataset")
    rows: Any = usable_rows(given, model, encoder, config, scores_more=bool(teacher or grader), held_out=True)
    found: Evaluation
    if isinstance(rows[0], PromptLine):
        found = HeldOutAnswers(rows, encoder, config, teacher, grader, gathered_weights)
    else:
        found = HeldOutSets(rows, config, method_of(config, encoder))
    if config.chooses_metric:
        config.metric_for_best_model, config.greater_is_better = found.best
    return found


# pyright: standard
