"""The command line: ``pad-teacher serve`` and ``pad-teacher key add``; torch is imported only to serve."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from pad_teacher.allocator import forget_old_shapes, keep_freed_memory
from pad_teacher.keys import KeyFileError, add_key
from pad_teacher.settings import BadSettings, read_settings

_USAGE = """usage: pad-teacher COMMAND

  serve     serve one teacher over HTTP        (pad-teacher serve --help)
  key add   make an API key and store its hash (pad-teacher key add --help)
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
            case ["--help" | "-h"]:
                print(_USAGE, end="")
                return 0
            case _:
                print(_USAGE, end="", file=sys.stderr)
                return 2
    except (BadSettings, KeyFileError, OSError) as error:
        print(f"pad-teacher: {error}", file=sys.stderr)
        return 1


def _serve(arguments: list[str]) -> int:
    settings = read_settings(arguments)
    keep_freed_memory()
    forget_old_shapes()
    from pad_teacher.serve import serve  # imports torch: seconds that --help and mistakes do not wait for

    return serve(settings)


def _key_add(arguments: list[str]) -> int:
    parser = ArgumentParser("pad-teacher key add", description="Print a new key once and store its hash.")
    parser.add_argument("name", help="whose key it is: shown in logs and usage")
    parser.add_argument("--keys", type=Path, required=True, help="key file; made if it is not there")
    options = parser.parse_args(arguments)
    print(add_key(options.keys, options.name))
    return 0
