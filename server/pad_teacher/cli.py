"""The command line: ``pad-teacher serve``, ``pad-teacher init``, ``pad-teacher key …`` and so on.

Each command imports what it needs, so that ``--help`` and ``--version`` answer within a second. Only ``serve``, once
its settings are read, imports torch. The commands of keys need none of the server's packages.
"""

import sys
from argparse import ArgumentParser
from importlib.metadata import version
from pathlib import Path

from pad_teacher.errors import TeacherError
from pad_wire.installed import missing_package

_USAGE = """usage: pad-teacher COMMAND

  serve       serve one teacher over HTTP        (pad-teacher serve --help)
  init        write a file with every setting    (pad-teacher init --help)
  completion  print a script that completes commands and flags in bash or zsh
  key add     make an API key and store its hash (pad-teacher key add --help)
  key revoke  delete a key; a running service refuses it within two seconds
  key list    print the names and limits of all keys, and with --usage DIR what each has used
  health      ask the service of this machine whether it is ready

  --version   print the version and exit
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 after success, 1 after a ``TeacherError`` or without a package that the command needs (one
        line on standard error), 2 for a wrong command line or setting.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(arguments)
    except TeacherError as error:
        return _fail(str(error), _status(error))
    except ModuleNotFoundError as error:
        message = missing_package(error, "completion" if error.name == "shtab" else "server")
        if message is None:
            raise
        return _fail(message)


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["serve", *rest]:
            return _serve(rest)
        case ["init", *rest]:
            return _init(rest)
        case ["completion", *rest]:
            return _completion(rest)
        case ["key", "add", *rest]:
            return _key_add(rest)
        case ["key", "revoke", *rest]:
            return _key_revoke(rest)
        case ["key", "list", *rest]:
            return _key_list(rest)
        case ["health", *rest]:
            return _health(rest)
        case ["--help" | "-h"]:
            print(_USAGE, end="")
            return 0
        case ["--version"]:
            print(f"pad-service {version('pad-service')}")
            return 0
        case _:
            print(_USAGE, end="", file=sys.stderr)
            return 2


def parsers() -> dict[str, ArgumentParser]:
    """The parser of each command, by its name."""
    from pad_settings.loader import parser_of
    from pad_teacher.settings import SERVE

    return {
        "serve": parser_of(SERVE),
        "init": _init_parser(),
        "completion": _completion_parser(),
        "key add": _key_add_parser(),
        "key revoke": _key_revoke_parser(),
        "key list": _key_list_parser(),
        "health": _health_parser(),
    }


def _fail(message: str, status: int = 1) -> int:
    print(f"pad-teacher: {message}", file=sys.stderr)
    return status


def _status(error: TeacherError) -> int:
    from pad_teacher.settings import UsageError

    return 2 if isinstance(error, UsageError) else 1


def _serve(arguments: list[str]) -> int:
    from pad_teacher.runtime.allocator import forget_old_shapes, keep_freed_memory
    from pad_teacher.serve.preflight import check_first
    from pad_teacher.settings import read_settings

    settings = read_settings(arguments)
    check_first(settings)
    keep_freed_memory()
    forget_old_shapes()
    from pad_teacher.serve.process import serve

    return serve(settings)


def _completion(arguments: list[str]) -> int:
    from pad_settings.completion import script

    shell = _completion_parser().parse_args(arguments).shell
    print(script("pad-teacher", parsers(), shell))
    return 0


def _completion_parser() -> ArgumentParser:
    from pad_settings.completion import SHELLS

    does = "Print a script that completes commands and flags in a shell."
    parser = ArgumentParser("pad-teacher completion", description=does)
    parser.add_argument("shell", choices=SHELLS, help="the shell that runs the script")
    return parser


def _init(arguments: list[str]) -> int:
    from pad_settings.commented import FileIsThere, write_all_settings
    from pad_teacher.settings import SERVE

    file = Path(_init_parser().parse_args(arguments).file)
    try:
        write_all_settings(SERVE, file)
    except FileIsThere as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{file}: {error.strerror}")
    print(
        f"{file}: every setting, with its default; set the model, then pad-teacher serve --config {file}",
        file=sys.stderr,
    )
    return 0


def _init_parser() -> ArgumentParser:
    parser = ArgumentParser("pad-teacher init", description="Write a file with every setting of serve, commented.")
    parser.add_argument(
        "file", type=Path, nargs="?", default="teacher.yaml", help="the new file (default: teacher.yaml)"
    )
    return parser


def _key_add(arguments: list[str]) -> int:
    from pad_teacher.admission.keys import add_key

    options = vars(_key_add_parser().parse_args(arguments))
    print(add_key(options.pop("keys"), options.pop("name"), **options))
    return 0


def _key_add_parser() -> ArgumentParser:
    parser = _key_parser("add", "Print a new key once and store its hash.")
    parser.add_argument("name", help="name of the key's owner, shown in logs and usage")
    parser.add_argument("--weight", type=float, default=1.0, help="share relative to other keys (default: 1)")
    parser.add_argument("--tokens-per-minute", type=int, help="budget of teacher tokens (default: no limit)")
    parser.add_argument("--tokens-per-day", type=int, help="quota of teacher tokens per UTC day (default: no limit)")
    parser.add_argument("--metrics", action="store_true", help="let it read /metrics, which names all keys and jobs")
    return parser


def _key_revoke(arguments: list[str]) -> int:
    from pad_teacher.admission.keys import revoke_key

    options = _key_revoke_parser().parse_args(arguments)
    revoke_key(options.keys, options.name)
    return 0


def _key_revoke_parser() -> ArgumentParser:
    parser = _key_parser("revoke", "Delete a key. A running service refuses it within two seconds.")
    parser.add_argument("name", help="the key's name")
    return parser


def _key_list(arguments: list[str]) -> int:
    from pad_teacher.admission.key_table import key_table, used_by_key
    from pad_teacher.admission.keys import read_keys

    options = _key_list_parser().parse_args(arguments)
    keys = read_keys(options.keys)
    print("\n".join(key_table(keys, used_by_key(options.usage) if options.usage else None)))
    return 0


def _key_list_parser() -> ArgumentParser:
    parser = _key_parser("list", "Print the names and limits of all keys.")
    parser.add_argument("--usage", type=Path, metavar="DIR", help="the service's --data: adds the tokens of each key")
    return parser


def _health(arguments: list[str]) -> int:
    from pad_teacher.runtime.health import ask_health

    options = _health_parser().parse_args(arguments)
    print(ask_health(options.url))
    return 0


def _health_parser() -> ArgumentParser:
    parser = ArgumentParser(
        "pad-teacher health", description="Ask a service whether it is ready: exit status 0 or 1."
    )
    default = "PAD_TEACHER_HOST and PAD_TEACHER_PORT (127.0.0.1, 8010) on this machine, by HTTP or HTTPS"
    parser.add_argument("--url", help=f"the service (default: {default})")
    return parser


def _key_parser(command: str, does: str) -> ArgumentParser:
    parser = ArgumentParser(f"pad-teacher key {command}", description=does)
    parser.add_argument("--keys", type=Path, required=True, help="key file")
    return parser
