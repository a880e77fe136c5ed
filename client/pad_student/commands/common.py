"""Helpers of the commands: connect to the teacher, read prompts, show a progress bar, print a closing line."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from pad_student.commands.settings import ConversationSettings, PromptData, TeacherAccess
from pad_student.data.prompts import PromptLine, PromptOptions, read_prompts
from pad_student.teacher.client import Teacher
from pad_wire.chat import TemplateOptions


def connect(access: TeacherAccess, fingerprint: str | None = None) -> Teacher:
    """A client of the teacher that the settings name; a continued run gives the ``fingerprint`` it began with."""
    key = access.key.get_secret_value() if access.key else None
    return Teacher(access.teacher, key, access.job, fingerprint=fingerprint)


def template_options(settings: ConversationSettings) -> TemplateOptions:
    """What the settings say of the student's chat template.

    Raises:
        TemplateError: the file cannot be read.
    """
    return TemplateOptions.of(settings.date, settings.template_args, settings.chat_template)


def prompts_of(source: Path, data: PromptData, model: str) -> list[PromptLine]:
    """Read the prompts that the settings name, and report on stderr those that exceed a limit.

    Raises:
        PromptsError: for data that cannot be read, or that holds no prompts.
    """
    options = PromptOptions(**{field.name: getattr(data, field.name) for field in fields(PromptOptions)})
    encoder = None
    if options.max_prompt_tokens:
        from pad_student.sampling.generate import load_encoder

        encoder = load_encoder(model, template_options(data) if isinstance(data, ConversationSettings) else None)
    return read_prompts(source, options, encoder, closing_line)


def progress(*, total: int, done: int, unit: str) -> "tqdm[NoReturn]":
    """A bar on stderr with rate and remaining time; an earlier start did ``done`` of ``total``."""
    return tqdm(total=total, initial=done, unit=f" {unit}", file=sys.stderr, smoothing=0.1)


def closing_line(text: str) -> None:
    """Print one line on stderr about finished work."""
    print(text, file=sys.stderr)
