"""A teacher's template that refuses a run's conversations is known before the first sample."""

import pytest

from pad_student.commands.template_trial import try_template
from pad_student.data.prompts import PromptLine
from pad_student.preference.settings import RefusalSettings
from pad_student.teacher.client import TeacherRefused
from pad_student.teacher.errors import TeacherUnreachable
from pad_wire import Message, SampledSet, ScoredSet
from support.student_runs import scored


def line(number: int, *roles: str) -> PromptLine:
    messages = [Message(role=role, content=f"say {number}") for role in roles]  # type: ignore[arg-type]
    return PromptLine(id=f"p{number}", prompt=messages or "say it")


class Teacher:
    """Refuses conversations with a system message."""

    def __init__(self, code: str = "template_refused") -> None:
        self.code = code
        self.asked: list[str] = []

    def likelihood(self, sets: list[SampledSet]) -> list[ScoredSet]:
        (each,) = sets
        self.asked.append(each.id)
        if not isinstance(each.prompt, str) and each.prompt[0].role == "system":
            raise TeacherRefused("the teacher at t refused: System role not supported", self.code)
        return [scored(each)]


PROMPTS = [line(k) for k in range(18)] + [line(18, "system", "user"), line(19, "user", "assistant", "user")]


def tried(teacher: Teacher, prompts: list[PromptLine] = PROMPTS, **refusals: object) -> list[str]:
    said: list[str] = []
    try_template(teacher, prompts, RefusalSettings(**refusals), said.append)  # type: ignore[arg-type]
    return said


def test_each_sequence_of_roles_is_tried_once() -> None:
    teacher = Teacher()
    (said,) = tried(teacher, [*PROMPTS, line(20, "user", "assistant", "user")])
    assert teacher.asked == ["p19", "p18"]
    assert "System role not supported; 1 of 21 prompts have roles that it refuses, and will be left out" in said


def test_plain_prompts_cost_no_request() -> None:
    teacher = Teacher()
    assert tried(teacher, PROMPTS[:18]) == []
    assert teacher.asked == []


@pytest.mark.parametrize("refusals", [{"on_refused": "stop"}, {"most_refused": 0.01}])
def test_a_run_that_would_end_for_it_does_not_begin(refusals: dict[str, object]) -> None:
    with pytest.raises(TeacherRefused, match="System role not supported; 1 of 20 prompts"):
        tried(Teacher(), **refusals)


def test_a_prompt_that_is_too_long_is_no_matter_of_the_template() -> None:
    assert tried(Teacher("too_long")) == []


def test_another_refusal_ends_the_run() -> None:
    with pytest.raises(TeacherRefused):
        tried(Teacher("unauthorized"))


def test_a_teacher_that_is_away_is_no_refusal() -> None:
    class Away(Teacher):
        def likelihood(self, sets: list[SampledSet]) -> list[ScoredSet]:
            raise TeacherUnreachable("away")

    with pytest.raises(TeacherUnreachable):
        tried(Away())
