"""The command line: ``pad-teacher serve`` and ``pad-teacher key …``.

Each command imports what it needs, so that ``--help`` and ``--version`` answer within a second. Only ``serve``, once
its settings are read, imports torch.
"""

import sys
from argparse import ArgumentParser
from importlib.metadata import version
from pathlib import Path

from pad_teacher.errors import TeacherError

_USAGE = """usage: pad-teacher COMMAND

  serve       serve one teacher over HTTP        (pad-teacher serve --help)
  key add     make an API key and store its hash (pad-teacher key add --help)
  key revoke  delete a key; a running service refuses it within two seconds
  key list    print the names and limits of all keys

  --version   print the version and exit
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 after success, 1 after a ``TeacherError`` (one line on standard error), 2 if there is no
        such command.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        match arguments:
            case ["serve", *rest]:
                return _serve(rest)
            case ["key", "add", *rest]:
                return _key_add(rest)
            case ["key", "revoke", *rest]:
                return _key_revoke(rest)
            case ["key", "list", *rest]:
                return _key_list(rest)
            case ["--help" | "-h"]:
                print(_USAGE, end="")
                return 0
            case ["--version"]:
                print(f"pad-service {version('pad-service')}")
                return 0
            case _:
                print(_USAGE, end="", file=sys.stderr)
                return 2
    except TeacherError as error:
        print(f"pad-teacher: {error}", file=sys.stderr)
        return 1


def _serve(arguments: list[str]) -> int:
    from pad_teacher.runtime.allocator import forget_old_shapes, keep_freed_memory
    from pad_teacher.settings import read_settings

    settings = read_settings(arguments)
    keep_freed_memory()
    forget_old_shapes()
    from pad_teacher.serve import serve

    return serve(settings)


def _key_add(arguments: list[str]) -> int:
    from pad_teacher.admission.keys import add_key

    parser = _key_parser("add", "Print a new key once and store its hash.")
    parser.add_argument("name", help="name of the key's owner, shown in logs and usage")
    parser.add_argument("--weight", type=float, default=1.0, help="share relative to other keys (default: 1)")
    parser.add_argument("--tokens-per-minute", type=int, help="budget of teacher tokens (default: no limit)")
    parser.add_argument("--tokens-per-day", type=int, help="quota of teacher tokens per UTC day (default: no limit)")
    options = vars(parser.parse_args(arguments))
    print(add_key(options.pop("keys"), options.pop("name"), **options))
    return 0


def _key_revoke(arguments: list[str]) -> int:
    from pad_teacher.admission.keys import revoke_key

    parser = _key_parser("revoke", "Delete a key. A running service refuses it within two seconds.")
    parser.add_argument("name", help="the key's name")
    options = parser.parse_args(arguments)
    revoke_key(options.keys, options.name)
    return 0


def _key_list(arguments: list[str]) -> int:
    from pad_teacher.admission.keys import read_keys

    options = _key_parser("list", "Print the names and limits of all keys.").parse_args(arguments)
    print(f"{'name':24} {'weight':>7} {'tokens a minute':>16} {'tokens a day':>14}")
    for key in read_keys(options.keys):
        print(f"{key.name:24} {key.weight:7g} {key.tokens_per_minute or '-':>16} {key.tokens_per_day or '-':>14}")
    return 0


def _key_parser(command: str, does: str) -> ArgumentParser:
    parser = ArgumentParser(f"pad-teacher key {command}", description=does)
    parser.add_argument("--keys", type=Path, required=True, help="key file")
    return parser
