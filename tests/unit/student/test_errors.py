"""The tree of errors is drawn once, and whole."""

import re

from pad_student import errors
from pad_student.sampling import vllm_server
from pad_student.teacher import errors as teacher_errors


def names_below(error: type[Exception]) -> list[str]:
    return [name for each in error.__subclasses__() for name in (each.__name__, *names_below(each))]


def test_the_drawing_names_every_error() -> None:
    assert {vllm_server.SamplerError, teacher_errors.TeacherError} < {*errors.StudentError.__subclasses__()} | {
        *errors.SamplingError.__subclasses__()
    }
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(names_below(errors.StudentError))
