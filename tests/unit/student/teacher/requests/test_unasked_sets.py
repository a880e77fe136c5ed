"""Sets of one text, about which the teacher is not asked: replies and requests."""

from typing import Any

import pytest

from pad_student.teacher.client import Teacher
from pad_student.teacher.errors import TeacherNonsense
from pad_student.teacher.options import ScoreOptions
from pad_student.teacher.requests.cutting import work_of
from pad_wire import SampledSet
from support.fake_teacher import FakeTeacherService

ONE_TEXT = SampledSet(id="a", prompt="hi", responses=["yes", "yes"])


class Unasking(FakeTeacherService):
    """Says that it asked ``orders`` questions, and gives no label mass."""

    def __init__(self, orders: int) -> None:
        super().__init__()
        self.orders = orders

    def reply(self, path: str, body: dict) -> dict:
        reply = super().reply(path, body)
        for each in reply["sets"]:
            del each["label_mass"]
            each["orders_asked"] = self.orders
            for response in each["responses"]:
                response["selection_probability"] = 1.0
        return reply


def teacher(service: FakeTeacherService) -> Teacher:
    return Teacher("http://t", transport=service.transport, patience=0.05)


def test_a_set_that_was_not_asked_has_no_label_mass() -> None:
    (scored,) = teacher(Unasking(0)).score([ONE_TEXT])
    assert (scored.label_mass, scored.orders_asked) == (None, 0)
    assert [response.selection_probability for response in scored.responses] == [1, 1]


def test_a_set_that_was_asked_without_label_mass_is_nonsense() -> None:
    with pytest.raises(TeacherNonsense, match="no label_mass"):
        teacher(Unasking(4)).score([ONE_TEXT])
    with pytest.raises(TeacherNonsense, match="no label_mass"):
        list(teacher(Unasking(4)).selection([ONE_TEXT]))


@pytest.mark.parametrize(("how", "sent"), [({}, None), ({"distinct": False}, False)])
def test_copies_are_asked_apart_only_if_wanted(how: dict[str, Any], sent: bool | None) -> None:
    service = FakeTeacherService()
    teacher(service).score([ONE_TEXT], **how)
    assert service.bodies[-1].get("distinct") is sent


def test_the_work_of_copies_is_that_of_their_text() -> None:
    once = SampledSet(id="a", prompt="hi", responses=["yes" * 9, "no"])
    twice = SampledSet(id="a", prompt="hi", responses=["yes" * 9, "no", "no"])
    together, apart = ScoreOptions(alpha=1), ScoreOptions(alpha=1, distinct=False)
    assert work_of(twice, together) - work_of(once, together) == pytest.approx(2 / 3), "its likelihood alone"
    assert work_of(twice, apart) > work_of(twice, together)
    assert work_of(ONE_TEXT, together) == work_of(ONE_TEXT, ScoreOptions(alpha=0))
