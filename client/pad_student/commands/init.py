"""``pad-student init``: a file with every setting of a command, commented."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from pad_settings.commented import FileIsThere, write_all_settings
from pad_student.commands.programs import COMMANDS, program_of
from pad_student.commands.settings import InitSettings, TrainingSettings, training_arguments
from pad_student.errors import BadSettings
from pad_student.storage.voice import say

OF_TRANSFORMERS = "Other fields of transformers.TrainingArguments"


def run(settings: InitSettings) -> None:
    """Write the file.

    Raises:
        BadSettings: it is there already.
    """
    kind = COMMANDS[settings.command].settings
    others = _trainer_fields(kind) if issubclass(kind, TrainingSettings) else ()
    try:
        write_all_settings(program_of(kind), settings.file, others, OF_TRANSFORMERS)
    except FileIsThere as error:
        raise BadSettings(str(error)) from None
    config = settings.file if settings.command == "distill" else f"--config {settings.file}"
    then = f"set the first few, then pad-student {settings.command} {config}"
    say(f"{settings.file}: every setting, with its default; {then}")


def _trainer_fields(kind: type[TrainingSettings]) -> Iterator[tuple[str, str, Any]]:
    """Name, help and default of each further setting; PADConfig has its own defaults for some."""
    from pad_student.preference.config import PADConfig
    from pad_student.preference.trainer_fields import WITHOUT_EFFECT

    names = training_arguments() - kind.model_fields.keys() - WITHOUT_EFFECT.keys()
    for each in sorted(fields(PADConfig), key=lambda each: each.name):
        if each.name in names and each.default is not MISSING:
            yield each.name, _first_sentence(each.metadata.get("help", "")), each.default


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")
