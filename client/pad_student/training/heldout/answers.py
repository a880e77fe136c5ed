"""Evaluation during training: the student's answers to held-out prompts, compared with those from the start."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from pad_student.data.prompts import PromptLine
from pad_student.errors import EvaluationError, OtherRun
from pad_student.evaluation.bootstrap import paired_gain
from pad_student.evaluation.grading import Grader, grades
from pad_student.model.distributed.processes import fail_together, gather_from_all, is_first
from pad_student.preference.config import PADConfig
from pad_student.preference.set_rewards import reward_settings
from pad_student.storage.jsonl import Appender
from pad_student.storage.terminal.status import STATUS
from pad_student.teacher.client import Teacher
from pad_student.teacher.requests.refusals import Refusals
from pad_student.training.batches import batch_of, judging_options
from pad_student.training.heldout.record import bind_to_rows
from pad_student.training.heldout.student import answers, log_likelihoods
from pad_wire import Response, SampledSet, ScoredSet
from pad_wire.chat import ChatEncoder, as_text

FILE = "heldout.jsonl"

Gathered = Callable[[], AbstractContextManager[None]]


class HeldOutAnswers:
    """Compares one answer to each held-out prompt with the starting student's answer to it.

    The teacher scores both answers in one set, so its rewards can be compared, whatever ``alpha`` is.
    ``heldout.jsonl`` has a line for each answer.

    Invariants:
        - Answers are sampled with the same seed each time: a student that learnt nothing gives the same ones.
        - An answer that is the start's own is a tie.
        - Training is the same with and without it.

    Args:
        rows: the held-out prompts.
        encoder: the student's.
        config: how answers are sampled and rewarded.
        teacher: None if a rule alone judges.
        grader: a rule that grades an answer, or None.
        gathered_weights: makes sharded weights whole while the student answers; collective.
    """

    def __init__(
        self,
        rows: Sequence[PromptLine],
        encoder: ChatEncoder,
        config: PADConfig,
        teacher: Teacher | None,
        grader: Grader | None,
        gathered_weights: Gathered = nullcontext,
    ) -> None:
        self._rows, self._encoder, self._config = rows, encoder, config
        self._teacher, self._grader, self._gathered = teacher, grader, gathered_weights
        self._path = Path(str(config.output_dir)) / FILE
        self.best: tuple[str, bool] = ("eval_reward", True) if teacher else ("eval_grade", True)

    def begin(self, model: Any, step: int) -> None:
        """Keep the start's answers, unless an earlier start of the run did.

        Raises:
            OtherRun: that one had other held-out prompts, or ended before it had kept all answers.
        """
        with self._gathered():
            fail_together(lambda: self._keep_start(model, step) if is_first() else None)

    def measure(self, model: Any, step: int) -> dict[str, float]:
        """Sample, have the teacher score both answers, and grade.

        Returns:
            ``reward``, ``reward_gain`` over the start with the interval ``reward_gain_low`` and ``_high`` over
            prompts, ``win_rate`` (ties are half); ``grade``, ``grade_gain`` and its interval; ``kl``, the mean of
            ln p_start - ln p_now on the start's answers, in nats a token; ``length`` in characters.

        Raises:
            EvaluationError: no held-out prompt could be answered and scored.
        """
        with self._gathered():
            metrics = fail_together(lambda: self._measured(model, step) if is_first() else {})
        return gather_from_all(metrics)[0]

    def _keep_start(self, model: Any, step: int) -> None:
        bind_to_rows(self._config, self._rows)
        with Appender(self._path) as lines:  # which cuts a torn last line off
            held = {line["prompt_id"]: line["step"] for line in self._lines_of_start()}
            missing = [row for row in self._rows if row.id not in held]
            if missing and (others := set(held.values()) - {step}):
                raise OtherRun(
                    f"{self._path} has answers of the student of step {others.pop()}, and none to {missing[0].id!r};"
                    " move it away to compare with the present student, or give another output"
                )
            found = self._of_start(model) if missing else {}
            for row in missing:
                line = {"id": f"{row.id}@{step}", "prompt_id": row.id, "step": step, "is_start": True}
                lines.append(line | {"prompt": row.model_dump()["prompt"], "answer": None} | found.get(row.id, {}))

    def _of_start(self, model: Any) -> dict[str, dict[str, Any]]:
        """Answers, grades and log-likelihoods, by the prompts that could be answered."""
        answered = answers(model, self._encoder, self._rows, self._config)
        likelihoods = log_likelihoods(model, self._encoder, answered)
        return {
            row.id: _kept(answer) | self._graded(row, answer) | {"log_likelihood": value, "tokens": n}
            for (row, answer), (value, n) in zip(answered, likelihoods, strict=True)
        }

    def _measured(self, model: Any, step: int) -> dict[str, float]:
        start = {line["prompt_id"]: line for line in self._lines_of_start() if line["answer"]}
        both = [
            (row, Response.model_validate(start[row.id]["answer"]), answer)
            for row, answer in answers(model, self._encoder, self._rows, self._config)
            if row.id in start
        ]
        rewards = self._rewards(both)
        judged = [each for each in both if not self._teacher or each[0].id in rewards]
        if not judged:
            raise EvaluationError("no held-out prompt could be answered and scored; give others")
        found = [self._line(*each, step, rewards.get(each[0].id)) for each in judged]
        with Appender(self._path) as lines:
            for line in found:
                if line["id"] not in lines.held:
                    lines.append(line)
        metrics = {"length": fmean(len(line["answer"]["text"]) for line in found)}
        for name in ("reward", "grade"):
            if name in found[0]:
                metrics |= _gain(name, found)
        if "reward" in found[0]:
            metrics["win_rate"] = fmean(_win(line["reward"] - line["reward_start"]) for line in found)
        return metrics | self._kl(model, start)

    def _line(
        self, row: PromptLine, old: Response, new: Response, step: int, rewards: tuple[float, float] | None
    ) -> dict[str, Any]:
        line = {"id": f"{row.id}@{step}", "prompt_id": row.id, "step": step, **_kept(new)}
        if rewards:
            line |= {"reward_start": rewards[0], "reward": rewards[1]}
        # The start is graded anew: its own grade may be another rule's.
        return line | self._graded(row, old, "grade_start") | self._graded(row, new)

    def _rewards(self, both: Sequence[tuple[PromptLine, Response, Response]]) -> dict[str, tuple[float, float]]:
        """The teacher's rewards of the start's answer and of the present one, by prompt."""
        if self._teacher is None:
            return {}
        sets = [SampledSet(id=row.id, prompt=row.prompt, responses=[old, new]) for row, old, new in both]
        options, found = judging_options(self._config), dict[str, tuple[float, float]]()
        with STATUS.phase("scoring held-out answers", len(sets)) as phase:
            for scored in self._teacher.score_stream(sets, options=options, refusals=Refusals("skip")):
                phase.update()
                found[scored.id] = self._two_rewards(scored)
        return found

    def _two_rewards(self, scored: ScoredSet) -> tuple[float, float]:
        old, new = batch_of([scored], self._encoder, **reward_settings(self._config))["rewards_teacher"][0].tolist()
        return (old, old) if scored.responses[0].text == scored.responses[1].text else (old, new)

    def _graded(self, row: PromptLine, answer: Response, name: str = "grade") -> dict[str, float]:
        if self._grader is None:
            return {}
        return {name: grades(self._grader, row.id, as_text(row.prompt), [answer])[0]}

    def _kl(self, model: Any, start: dict[str, Any]) -> dict[str, float]:
        rows = [(row, start[row.id]) for row in self._rows if row.id in start]
        begun_with = [(row, Response.model_validate(line["answer"])) for row, line in rows]
        now = log_likelihoods(model, self._encoder, begun_with)
        fall = sum(line["log_likelihood"] - value for (_, line), (value, _) in zip(rows, now, strict=True))
        return {"kl": fall / sum(tokens for _, tokens in now)}

    def _lines_of_start(self) -> list[dict[str, Any]]:
        """A line for each prompt, with its answer if it could be answered; ``begin`` left whole lines alone."""
        return [line for line in map(orjson.loads, self._path.read_bytes().splitlines()) if "is_start" in line]


def _kept(answer: Response) -> dict[str, Any]:
    return {"answer": answer.model_dump(exclude_none=True)}


def _gain(name: str, lines: list[dict[str, Any]]) -> dict[str, float]:
    before = {line["prompt_id"]: line[f"{name}_start"] for line in lines}
    found = paired_gain(before, {line["prompt_id"]: line[name] for line in lines})
    gain = f"{name}_gain"
    return {name: found.after, gain: found.gain, f"{gain}_low": found.low, f"{gain}_high": found.high}


def _win(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


# pyright: standard
