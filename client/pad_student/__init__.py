"""The student's side: sample, score over HTTP, preference maths, training.

``from pad_student import PADTrainer, PADConfig, Teacher``: each is imported when it is first asked for, so that
commands which need no torch do not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pad_student.preference.config import PADConfig
    from pad_student.teacher.client import Teacher
    from pad_student.training.trainer import PADTrainer

__all__ = ["PADConfig", "PADTrainer", "Teacher"]

_HOME = {"PADConfig": "preference.config", "PADTrainer": "training.trainer", "Teacher": "teacher.client"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
