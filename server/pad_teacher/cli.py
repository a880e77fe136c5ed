"""The command line: ``pad-teacher serve`` and ``pad-teacher key …``; torch is imported only to serve."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from pad_teacher.admission.keys import KeyFileError, add_key, read_keys, revoke_key
from pad_teacher.admission.usage_file import LedgerError
from pad_teacher.runtime.allocator import forget_old_shapes, keep_freed_memory
from pad_teacher.settings import BadSettings, read_settings

_USAGE = """usage: pad-teacher COMMAND

  serve       serve one teacher over HTTP        (pad-teacher serve --help)
  key add     make an API key and store its hash (pad-teacher key add --help)
  key revoke  forget a key, at once, while the service runs
  key list    names and limits of all keys
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; every foreseen failure is one line on standard error and exit status 1."""
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
            case _:
                print(_USAGE, end="", file=sys.stderr)
                return 2
    except (BadSettings, KeyFileError, LedgerError, OSError) as error:
        print(f"pad-teacher: {error}", file=sys.stderr)
        return 1


def _serve(arguments: list[str]) -> int:
    settings = read_settings(arguments)
    keep_freed_memory()
    forget_old_shapes()
    from pad_teacher.serve import serve  # imports torch: seconds that --help and mistakes do not wait for

    return serve(settings)


def _key_add(arguments: list[str]) -> int:
    parser = _key_parser("add", "Print a new key once and store its hash.")
    parser.add_argument("name", help="whose key it is: shown in logs and usage")
    parser.add_argument("--weight", type=float, default=1.0, help="share of the teacher beside other keys' (1)")
    parser.add_argument("--tokens-per-minute", type=int, help="budget of teacher tokens; default: none")
    parser.add_argument("--tokens-per-day", type=int, help="quota of teacher tokens a UTC day; default: none")
    options = vars(parser.parse_args(arguments))
    print(add_key(options.pop("keys"), options.pop("name"), **options))
    return 0


def _key_revoke(arguments: list[str]) -> int:
    parser = _key_parser("revoke", "Forget a key: it is refused within two seconds, its requests under way finish.")
    parser.add_argument("name", help="the key's name")
    options = parser.parse_args(arguments)
    revoke_key(options.keys, options.name)
    return 0


def _key_list(arguments: list[str]) -> int:
    options = _key_parser("list", "Names and limits of all keys.").parse_args(arguments)
    print(f"{'name':24} {'weight':>7} {'tokens a minute':>16} {'tokens a day':>14}")
    for key in read_keys(options.keys):
        print(f"{key.name:24} {key.weight:7g} {key.tokens_per_minute or '-':>16} {key.tokens_per_day or '-':>14}")
    return 0


def _key_parser(command: str, does: str) -> ArgumentParser:
    parser = ArgumentParser(f"pad-teacher key {command}", description=does)
    parser.add_argument("--keys", type=Path, required=True, help="key file")
    return parser
