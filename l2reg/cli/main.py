"""The ``l2reg`` command: ``l2reg check DATA``, ``l2reg phantom --flavour lung --out DIR`` ..."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from l2reg.problems import exit_on_input_error

COMMANDS = {  # one line of help each; a command lies in the module of its name
    "check": "list all that is wrong with a data set",
    "check-submission": "list all that the organisers would refuse a zip for",
    "bundle": "zip the fields of several tasks as one submission",
    "phantom": "write anatomy-like data with a known true field",
    "register": "bring one scan onto another; any two files",
    "propagate-labels": "label training scans by registering labelled ones to them",
    "keypoints": "find keypoints to train on for pairs of one patient that have none",
    "rank": "rank teams as the challenge does",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; exit with 1 if the input is at fault."""
    with exit_on_input_error():
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> None:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] not in COMMANDS:
        _overview().parse_args(words)  # shows the help, or refuses what is no command
    name, *options = words
    module = importlib.import_module(f"l2reg.cli.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"l2reg {name}", description=COMMANDS[name])
    module.add_arguments(parser)
    module.run(parser.parse_args(options))


def _overview() -> argparse.ArgumentParser:
    """Return a parser that knows the commands by name and nothing of their options."""
    parser = argparse.ArgumentParser(prog="l2reg", description="Registration of 3D medical scans.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, line in COMMANDS.items():
        commands.add_parser(name, help=line)
    return parser
