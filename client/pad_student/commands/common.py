"""Helpers of the commands: connect to the teacher, read prompts, show progress, print a closing line."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

from pad_student.commands.settings import ConversationSettings, PromptData, ServiceAccess
from pad_student.data.prompts import PromptLine, PromptOptions, read_prompts
from pad_student.storage.terminal.phases import Phase
from pad_student.storage.terminal.status import STATUS
from pad_student.storage.voice import say
from pad_student.teacher.client import Teacher
from pad_wire.chat import TemplateOptions

MOST_JOB_CHARS = 128  # of a header's name for a job


def connect(access: ServiceAccess, fingerprint: str | None = None, reference: str | None = None) -> Teacher:
    """A client of the teacher that the settings name, and of its reference if they name one.

    A continued run gives the fingerprints of both that it began with.
    """
    reference_key = getattr(access, "reference_key", None)
    return Teacher(
        access.urls,
        access.key.get_secret_value() if access.key else None,
        access.job or job_of(access),
        timeout=access.timeout,
        patience=access.patience,
        fingerprint=fingerprint,
        reference=getattr(access, "reference", None),
        reference_key=reference_key.get_secret_value() if reference_key else None,
        reference_fingerprint=reference,
    )


def job_of(access: ServiceAccess) -> str | None:
    """The name of the command's output, as far as a header can carry it: the service lists the work under it."""
    place: Path | None = getattr(access, "output_dir", None) or getattr(access, "out", None)
    if place is None:
        return None
    place = Path(place).absolute()
    return re.sub(r"[^!-~]+", "-", place.stem if place.suffix == ".jsonl" else place.name)[:MOST_JOB_CHARS] or None


def template_options(settings: ConversationSettings) -> TemplateOptions:
    """What the settings say of the student's chat template.

    Raises:
        TemplateError: the file cannot be read.
    """
    return TemplateOptions.of(settings.date, settings.template_args, settings.chat_template)


def prompts_of(
    source: Path, data: PromptData, model: str, say: Callable[[str], None] | None = None
) -> list[PromptLine]:
    """Read the prompts that the settings name, and report those that exceed a limit, by default on stderr.

    Raises:
        PromptsError: for data that cannot be read, or that holds no prompts.
    """
    names = [field.name for field in fields(PromptOptions) if field.name != "pairs"]
    pairs = getattr(data, "method", "pad") != "pad"
    options = PromptOptions(**{name: getattr(data, name) for name in names}, pairs=pairs)
    encoder = None
    if options.max_prompt_tokens:
        from pad_student.sampling.generate import load_encoder

        spoken = isinstance(data, ConversationSettings)
        encoder = load_encoder(model, template_options(data), data.allow) if spoken else load_encoder(model)
    with STATUS.phase("reading the prompts"):
        return read_prompts(source, options, encoder, say or closing_line)


def progress(*, total: int, done: int, unit: str) -> AbstractContextManager[Phase]:
    """The status line of a command that counts its work; an earlier start did ``done`` of ``total``."""
    return STATUS.phase(unit, total, done)


def closing_line(text: str) -> None:
    """Print one line on stderr about finished work."""
    say(text)
