"""The pad-student command: finds the subcommand, runs it, and prints one line for any error."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from pad_student.commands.preflight import check_first
from pad_student.commands.programs import COMMANDS, Command
from pad_student.commands.settings_loader import load, refuse_unknown_variables
from pad_student.errors import EndedByAnother, StudentError, UsageError
from pad_student.storage.terminal.status import STATUS
from pad_wire.chat import TemplateError
from pad_wire.installed import missing_package


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 for an error, 2 for a wrong command line, 130 after Ctrl-C.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped; the same command again continues from here", 130)
    except EndedByAnother:
        return 1
    except Exception as error:
        message = _explanation(error)
        if message is None:
            raise
        return _fail(message, 2 if isinstance(error, UsageError) else 1)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"pad-service {version('pad-service')}")
        return 0
    words = 2 if arguments[:1] == ["eval"] else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name not in COMMANDS:
        return _usage(name)
    command = COMMANDS[name]
    settings = load(command.settings, f"pad-student {name}", rest)
    refuse_unknown_variables(each.settings for each in COMMANDS.values())
    with STATUS.showing():
        with STATUS.phase("checking paths and names"):
            check_first(settings)
        getattr(import_module(command.module), command.function)(settings)
    return 0


def _explanation(error: Exception) -> str | None:
    """A message about an error that a user can put right; None for an error of the program."""
    if isinstance(error, StudentError | TemplateError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error, "completion" if error.name == "shtab" else "client")
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if _is_lost_process(error):
        return "another process of the run is gone; the same command continues from the last checkpoint"
    return None


def _is_lost_process(error: Exception) -> bool:
    if "torch.distributed" not in sys.modules:
        return False
    from pad_student.model.distributed.processes import is_loss

    return is_loss(error)


def _usage(name: str) -> int:
    first, _, second = name.partition(" ")
    if first in ("-h", "--help") or (first == "eval" and second in ("-h", "--help")):
        chosen = {each: command for each, command in COMMANDS.items() if each.startswith("eval") or first != "eval"}
        print(f"usage: pad-student COMMAND [--setting value ...]\n\n{_listed(chosen)}\n")
        print("pad-student COMMAND --help lists its settings; pad-student --version prints the version.")
        print("Flags override PAD_STUDENT_* variables, which override the YAML file of --config, which overrides")
        print("defaults.")
        return 0
    wrong = f"no command {name!r}" if name else "no command given"
    return _fail(f"{wrong}; there are {', '.join(COMMANDS)}", 2)


def _listed(commands: dict[str, Command]) -> str:
    return "\n".join(
        f"  {name:<15}{(command.settings.__doc__ or '').splitlines()[0]}" for name, command in commands.items()
    )


def _fail(message: str, status: int) -> int:
    first_line = next(iter(message.strip().splitlines()), "failed without a message")
    print(f"pad-student: {first_line}", file=sys.stderr)
    return status
