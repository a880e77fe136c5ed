"""The pad-student command: one line for every error, and nothing heavy imported before it is needed."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

from pad_student.commands.settings import (
    AnswerSettings,
    DistillSettings,
    GradeSettings,
    ReportSettings,
    SampleSettings,
    ScoreSettings,
    Settings,
    TrainSettings,
    WinRateSettings,
)
from pad_student.commands.settings_loader import load, refuse_unknown_variables
from pad_student.errors import EndedByAnother, StudentError, UsageError
from pad_wire.chat import TemplateError


class Command(NamedTuple):
    """A command's settings and the function that does it, by name, so that it is imported only to be run."""

    settings: type[Settings]
    module: str
    function: str = "run"


COMMANDS = {
    "sample": Command(SampleSettings, "pad_student.commands.sample"),
    "score": Command(ScoreSettings, "pad_student.commands.score"),
    "train": Command(TrainSettings, "pad_student.commands.train"),
    "distill": Command(DistillSettings, "pad_student.commands.distill"),
    "report": Command(ReportSettings, "pad_student.commands.report"),
    "eval grade": Command(GradeSettings, "pad_student.commands.evaluate", "grade"),
    "eval win-rate": Command(WinRateSettings, "pad_student.commands.evaluate", "win_rate"),
    "eval answers": Command(AnswerSettings, "pad_student.commands.evaluate", "answers"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for an error, 2 for a wrong command line, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments == ["--version"]:
            print(f"pad-service {version('pad-service')}")
            return 0
        name, rest = _command_name(arguments)
        if name not in COMMANDS:
            return _usage(name, rest)
        command = COMMANDS[name]
        settings = load(command.settings, f"pad-student {name}", rest)
        refuse_unknown_variables(each.settings for each in COMMANDS.values())
        getattr(import_module(command.module), command.function)(settings)
    except KeyboardInterrupt:
        return _say("stopped; the same command again continues where it was", 130)
    except UsageError as error:
        return _say(str(error), 2)
    except EndedByAnother:
        return 1
    except (StudentError, TemplateError) as error:
        return _say(str(error), 1)
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 1)
    except Exception as error:
        if not _is_lost_process(error):
            raise
        return _say("another process of the run is gone; the same command continues from the last checkpoint", 1)
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _is_lost_process(error: Exception) -> bool:
    if "torch.distributed" not in sys.modules:
        return False
    from pad_student.model.distributed.processes import is_loss

    return is_loss(error)


def _command_name(arguments: list[str]) -> tuple[str, list[str]]:
    words = 2 if arguments[:1] == ["eval"] else 1
    return " ".join(arguments[:words]), arguments[words:]


def _usage(name: str, rest: list[str]) -> int:
    first, _, second = name.partition(" ")
    if first in ("-h", "--help") or (first == "eval" and second in ("-h", "--help")):
        chosen = {each: command for each, command in COMMANDS.items() if each.startswith("eval") or first != "eval"}
        print(f"usage: pad-student COMMAND [--setting value ...]\n\n{_listed(chosen)}\n")
        print("pad-student COMMAND --help lists its settings. Flags go before PAD_STUDENT_* variables, these before")
        print("the YAML file of --config, that before defaults.")
        return 0
    wrong = f"no command {name!r}" if name else "no command given"
    return _say(f"{wrong}; there are {', '.join(COMMANDS)}", 2)


def _listed(commands: dict[str, Command]) -> str:
    return "\n".join(
        f"  {name:<15}{(command.settings.__doc__ or '').splitlines()[0]}" for name, command in commands.items()
    )


def _say(message: str, status: int) -> int:
    first_line = next(iter(message.strip().splitlines()), "failed without a word")
    print(f"pad-student: {first_line}", file=sys.stderr)
    return status
