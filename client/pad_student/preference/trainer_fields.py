"""The fields of transformers.TrainingArguments, checked: each wrong value is one line that names the field."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from math import isfinite
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments

from pad_student.errors import ConfigError, StudentError

POSITIVE = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "save_steps",
    "logging_steps",
    "eval_steps",
    "per_device_eval_batch_size",
)
NOT_NEGATIVE = ("weight_decay", "warmup_steps", "max_grad_norm", "adam_epsilon", "dataloader_num_workers")
# Settings that would be accepted and do nothing, with the value that asks for nothing.
WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0, "PAD's losses compare rankings and have no labels to smooth"),
}
ALSO_BOOLEAN = ("fsdp",)  # transformers itself asks for True, and annotates text
NEED_TOKENS = ("group_by_length", "batch_rebalance")
OF_SETTINGS = (
    ValueError,
    TypeError,
    ImportError,
    NotImplementedError,
    RuntimeError,
    OSError,
    AttributeError,
    KeyError,
)


def mend_yaml(settings: Any) -> None:
    """Turn False into "no" where a strategy is expected: YAML reads ``save_strategy: no`` as False."""
    for each in fields(TrainingArguments):
        if each.name.endswith("_strategy") and getattr(settings, each.name, None) is False:
            setattr(settings, each.name, "no")


def why_wrong(settings: Any) -> str | None:
    """The first field of TrainingArguments that cannot be used, with the reason; None if all can."""
    hints = get_type_hints(TrainingArguments)
    for each in fields(TrainingArguments):
        value = getattr(settings, each.name)
        if value is None or (each.default is not MISSING and value == each.default):
            continue
        hint = bool | hints[each.name] if each.name in ALSO_BOOLEAN else hints[each.name]
        if problem := _wrong_type(hint, value) or _out_of_bounds(each.name, value):
            return f"{each.name}: {problem}, got {value!r}"
    for name, (nothing, reason) in WITHOUT_EFFECT.items():
        value = getattr(settings, name, nothing)
        if getattr(value, "value", value) != nothing:
            return f"{name} is not supported: {reason}"
    if settings.train_sampling_strategy in NEED_TOKENS:
        return f"train_sampling_strategy is not supported: {settings.train_sampling_strategy} needs rows of token ids"
    if settings.push_to_hub and not settings.hub_token and not _logged_in():
        return "push_to_hub needs a login: run hf auth login, or set HF_TOKEN"
    return None


@contextmanager
def in_one_line(of: str = "") -> Iterator[None]:
    """Raise a library's complaint about a setting as one line.

    Args:
        of: the settings, if the library's words may not name them.

    Raises:
        ConfigError: with the library's own words.
    """
    try:
        yield
    except (StudentError, MemoryError):
        raise
    except OF_SETTINGS as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{of}: {words}" if of else words) from error


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _wrong_type(hint: Any, value: Any) -> str | None:
    kinds = _kinds(hint)
    numeric = (int in kinds or float in kinds) and not {bool, str} & {*kinds}
    if numeric and isinstance(value, bool | str):
        return "expected a number"
    if isinstance(value, float) and not isfinite(value):
        return "expected a finite number"
    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False)[0]["msg"]
    return None


def _out_of_bounds(name: str, value: Any) -> str | None:
    if name in POSITIVE and value <= 0:
        return "expected a number above 0"
    if name in NOT_NEGATIVE and value is not None and value < 0:
        return "expected 0 or more"
    return None


def _logged_in() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


# pyright: standard
