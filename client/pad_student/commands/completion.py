"""``pad-student completion``: a script that completes commands and flags in a shell."""

from pad_settings.completion import script
from pad_settings.loader import parser_of
from pad_student.commands.programs import COMMANDS, program_of
from pad_student.commands.settings import CompletionSettings


def run(settings: CompletionSettings) -> None:
    """Print the script."""
    parsers = {name: parser_of(program_of(command.settings)) for name, command in COMMANDS.items()}
    print(script("pad-student", parsers, settings.shell))
