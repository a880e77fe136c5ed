"""The student's side of Preference-Aligned Distillation: sample, score over HTTP, compare preferences, train.

``from pad_student import Teacher, PADTrainer, PADConfig``: every public name is imported on first use, so that
commands without torch start fast.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pad_student.storage.voice import keep_standard_output_clean

if TYPE_CHECKING:
    from pad_student.data.prompts import PromptOptions, read_prompts
    from pad_student.data.response_sets import read_sets
    from pad_student.errors import StudentError
    from pad_student.model.logprobs import response_log_likelihoods
    from pad_student.preference.config import PADConfig
    from pad_student.preference.losses import LOSSES
    from pad_student.preference.rewards import calibrated_reward, likelihood_reward
    from pad_student.sampling.generate import load_student, sample_responses
    from pad_student.teacher.asynchronous import AsyncTeacher
    from pad_student.teacher.client import Teacher
    from pad_student.teacher.errors import (
        TeacherChanged,
        TeacherError,
        TeacherNonsense,
        TeacherRefused,
        TeacherUnreachable,
    )
    from pad_student.teacher.options import ScoreOptions
    from pad_student.training.batches import batch_of
    from pad_student.training.trainer import PADTrainer
    from pad_wire import Message, ModelCard, Response, SampledSet, ScoredResponse, ScoredSet
    from pad_wire.chat import ChatEncoder
    from pad_wire.given import set_of

__all__ = [
    "LOSSES",
    "AsyncTeacher",
    "ChatEncoder",
    "Message",
    "ModelCard",
    "PADConfig",
    "PADTrainer",
    "PromptOptions",
    "Response",
    "SampledSet",
    "ScoreOptions",
    "ScoredResponse",
    "ScoredSet",
    "StudentError",
    "Teacher",
    "TeacherChanged",
    "TeacherError",
    "TeacherNonsense",
    "TeacherRefused",
    "TeacherUnreachable",
    "batch_of",
    "calibrated_reward",
    "likelihood_reward",
    "load_student",
    "read_prompts",
    "read_sets",
    "response_log_likelihoods",
    "sample_responses",
    "set_of",
]

_HOMES = {
    "pad_student.data.prompts": ("PromptOptions", "read_prompts"),
    "pad_student.data.response_sets": ("read_sets",),
    "pad_student.errors": ("StudentError",),
    "pad_student.model.logprobs": ("response_log_likelihoods",),
    "pad_student.preference.config": ("PADConfig",),
    "pad_student.preference.losses": ("LOSSES",),
    "pad_student.preference.rewards": ("calibrated_reward", "likelihood_reward"),
    "pad_student.sampling.generate": ("load_student", "sample_responses"),
    "pad_student.teacher.asynchronous": ("AsyncTeacher",),
    "pad_student.teacher.client": ("Teacher",),
    "pad_student.teacher.errors": (
        "TeacherChanged",
        "TeacherError",
        "TeacherNonsense",
        "TeacherRefused",
        "TeacherUnreachable",
    ),
    "pad_student.teacher.options": ("ScoreOptions",),
    "pad_student.training.batches": ("batch_of",),
    "pad_student.training.trainer": ("PADTrainer",),
    "pad_wire": ("Message", "ModelCard", "Response", "SampledSet", "ScoredResponse", "ScoredSet"),
    "pad_wire.chat": ("ChatEncoder",),
    "pad_wire.given": ("set_of",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ALIASES = {f"{__name__}.{name}": f"{__name__}.preference.{name}" for name in ("losses", "plackett_luce")}


def __getattr__(name: str) -> Any:
    if f"{__name__}.{name}" in _ALIASES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


class _Aliases:
    """Import finder and loader: ``pad_student.losses`` is the module ``pad_student.preference.losses`` itself."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _ALIASES else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_ALIASES[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__:
            module.__spec__ = module.__spec__.loader_state  # the import system has put the alias's own spec there


keep_standard_output_clean()
sys.meta_path.append(_Aliases())  # type: ignore[arg-type]
