"""Entry point of the ``l2reg`` command: ``l2reg train task=lung``, ``l2reg check DATA``."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from l2reg.problems import InputError, Problem, exit_on_input_error

COMMANDS = {  # name and help line; a command is the module of the same name
    "train": "train a registration network: task=lung model=pyramid",
    "predict": "write the fields of a split and their submission: ckpt=RUN",
    "evaluate": "score submissions by the official rules: task=lung submission=[A.zip]",
    "check": "list all problems of a data set, or of a table of your own scans",
    "plan": "propose how to train on a table of your own scans",
    "check-submission": "list all faults for which the organisers would refuse a zip",
    "bundle": "join the fields of several tasks into one submission zip",
    "phantom": "write synthetic, anatomy-like data with a known true field",
    "register": "register one scan to another; any two files",
    "warp": "take a scan, labels or points along a transform",
    "invert": "write the inverse of a transform",
    "convert": "write a transform in the form of another tool",
    "export": "write a trained model as safetensors, with a model card",
    "import-weights": "make a checkpoint of published LapIRN weights",
    "runs": "list the training runs in a folder: scores, steps, and what differs in their settings",
    "propagate-labels": "label training scans by registering labelled scans to them",
    "keypoints": "find keypoints for intra-patient training pairs that have none",
    "rank": "rank teams by the challenge's rules",
}
SCRIPTS = ("train", "predict", "evaluate")  # their options are keys of configs/, read by Hydra


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; exit with 1 if the input is incorrect."""
    with exit_on_input_error():
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> None:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] not in COMMANDS:
        _overview().parse_args(arguments)  # shows the help, or refuses an unknown command
    name, *options = arguments
    module = _import(f"l2reg.cli.{name.replace('-', '_')}")
    if name in SCRIPTS:
        _run_script(module, name, options)
        return
    parser = argparse.ArgumentParser(prog=f"l2reg {name}", description=COMMANDS[name])
    module.add_arguments(parser)
    module.run(parser.parse_args(options))


def _import(name: str) -> ModuleType:
    """Import a command; a checkout can be run without the packages that it needs."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            Problem(
                where="l2reg",
                what="needs a package that is not installed",
                expected="the packages that pyproject.toml lists",
                found=f"no {error.name}",
                remedy="make setup, then . .venv/bin/activate; or pip install -e .",
            )
        ) from error


def _run_script(module: ModuleType, name: str, options: Sequence[str]) -> None:
    """Run a command whose options Hydra takes from ``sys.argv``."""
    from l2reg.config.keys import name_nearest_key

    sys.argv = [f"l2reg {name}", *options]
    with name_nearest_key():
        module.main()


def _overview() -> argparse.ArgumentParser:
    """Return a parser of the command names, without the options of the commands."""
    parser = argparse.ArgumentParser(prog="l2reg", description="Registration of 3D medical scans.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, help_line in COMMANDS.items():
        commands.add_parser(name, help=help_line)
    return parser
