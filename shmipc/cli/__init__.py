"""The command line: ``shmipc COMMAND``.

A command is a module of this package with two functions: ``register(subparsers)`` adds its parser,
and ``run(args)`` does the work and returns the exit code. `COMMANDS` lists them, in the order in
which the help shows them.
"""

import argparse
import sys
from collections.abc import Sequence

import shmipc
from shmipc.cli import bench, demo
from shmipc.cli._errors import CommandError

COMMANDS = (demo, bench)

INTERRUPTED = 128 + 2
"""The exit code of a command that Ctrl-C ended, as shells count it: 128 and the signal's number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names (by default, the process's own arguments).

    Returns the exit code: 0 for success, 1 for a failure, 2 for bad input. Arguments that do not
    parse end the process with 2, as argparse does.
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except CommandError as error:
        print(f"shmipc {args.command}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shmipc", description="Processes that exchange messages through shared memory."
    )
    parser.add_argument("--version", action="version", version=f"shmipc {shmipc.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return parser
