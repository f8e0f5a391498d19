"""The ``l2reg`` command: ``l2reg check DATA``, ``l2reg phantom --flavour lung --out DIR`` ..."""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.check import check_dataset
from l2reg.data.dataset import Dataset
from l2reg.data.task import Task
from l2reg.inference.automatic_keypoints import write_keypoints
from l2reg.inference.label_propagation import propagate_labels
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import training_free_predictor
from l2reg.models.prediction import grid_of
from l2reg.phantom.make import FLAVOURS, MANIFEST, SIZES, make_phantom, phantom_task
from l2reg.problems import InputError, Problem, exit_on_input_error, raise_if_any
from l2reg.ranking.rank import METHODS, rank
from l2reg.ranking.standings import ranking_text
from l2reg.ranking.team_scores import read_tasks
from l2reg.registration.register import PRESETS, register
from l2reg.runtime import configure_malloc, select_device
from l2reg.submission.bundle import join_bundles
from l2reg.submission.convention_check import convention_warnings
from l2reg.submission.export import check_grid
from l2reg.submission.format_check import check_submission, official_names
from l2reg.submission.rules import RULES

TASKS = ("abdomen", "lung", "oasis")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; exit with 1 where the input is at fault."""
    options = _parser().parse_args(arguments)
    with exit_on_input_error():
        options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="l2reg", description="Registration of 3D medical scans.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="list all that is wrong with a data set")
    check.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=os.environ.get("L2REG_DATA", "data"),
        help="data root, default $L2REG_DATA or data/",
    )
    check.add_argument("--task", choices=TASKS, help="this task alone; default: all that are there")
    check.add_argument("--layout", default="auto", help="auto, 2021 or current")
    check.add_argument("--pairs", type=Path, help="another list of pairs, as pairs_val.csv is one")
    check.set_defaults(run=_check)

    _add_submission_commands(commands)

    phantom = commands.add_parser("phantom", help="write anatomy-like data with a known true field")
    phantom.add_argument("--flavour", choices=FLAVOURS, required=True, help="task it imitates")
    phantom.add_argument("--out", type=Path, required=True, help="new folder")
    phantom.add_argument("--pairs", type=int, default=16, help="a quarter is for validation")
    phantom.add_argument("--size", choices=SIZES, default="small", help="full: the official grid")
    phantom.add_argument("--seed", type=int, default=0, help="other patients")
    phantom.set_defaults(run=_phantom)

    register = commands.add_parser("register", help="bring one scan onto another; any two files")
    register.add_argument("fixed", type=Path, help="NIfTI volume")
    register.add_argument("moving", type=Path, help="NIfTI volume to be moved")
    register.add_argument("--out", type=Path, required=True, help="folder to write to")
    register.add_argument(
        "--like",
        choices=PRESETS,
        default="abdomen",
        help="abdomen: any two scans (default); lung: two CT; oasis: two MR of one sequence",
    )
    register.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    register.set_defaults(run=_register)

    _add_training_aids(commands)

    ranked = commands.add_parser("rank", help="rank teams as the challenge does")
    ranked.add_argument(
        "results",
        nargs="+",
        type=Path,
        help="scores.json of evaluate.py; of one task or several, of all teams or some",
    )
    ranked.add_argument(
        "--method", choices=METHODS, default="official", help="page: as the challenge's page says"
    )
    ranked.add_argument(
        "--resamples", type=int, default=1000, help="draws of the pairs, for the stability"
    )
    ranked.set_defaults(run=_rank)
    return parser


def _add_training_aids(commands: Commands) -> None:
    propagate = commands.add_parser(
        "segment-by-propagation", help="label training scans by registering labelled ones to them"
    )
    propagate.add_argument(
        "data", nargs="?", type=Path, default=os.environ.get("L2REG_DATA", "data"), help="data root"
    )
    propagate.add_argument("--task", choices=TASKS, help="not needed for a phantom")
    propagate.add_argument(
        "--out", type=Path, required=True, help="folder to write to: data.pseudo_labels.root=OUT"
    )
    propagate.add_argument("--ckpt", type=Path, help="network to register with; else model=convex")
    propagate.add_argument(
        "--atlases", type=_positive, default=3, help="labelled scans that vote on each"
    )
    propagate.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    propagate.set_defaults(run=_propagate, layout="auto", pairs=None)

    points = commands.add_parser(
        "keypoints", help="find keypoints to train on for pairs of one patient that have none"
    )
    points.add_argument(
        "data", nargs="?", type=Path, default=os.environ.get("L2REG_DATA", "data"), help="data root"
    )
    points.add_argument("--task", choices=TASKS, help="not needed for a phantom")
    points.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    points.set_defaults(run=_keypoints, layout="auto", pairs=None)


def _add_submission_commands(commands: Commands) -> None:
    submitted = commands.add_parser(
        "check-submission", help="list all that the organisers would refuse a zip for"
    )
    submitted.add_argument("zip", type=Path, help="anyone's submission, of one task or of all")
    submitted.add_argument("--task", choices=TASKS, required=True, help="whose fields to check")
    submitted.add_argument(
        "--data",
        type=Path,
        help="data root; then the images have a say in whether the values are meant as written",
    )
    submitted.add_argument("--split", choices=("val", "test"), default="val")
    submitted.add_argument(
        "--rules", choices=RULES, default="2021", help="current: full resolution, .nii.gz"
    )
    submitted.set_defaults(run=_check_submission, layout="auto", pairs=None)

    bundle = commands.add_parser("bundle", help="zip the fields of several tasks as one submission")
    bundle.add_argument("sources", nargs="+", type=Path, help="zips or folders of predict.py")
    bundle.add_argument("--out", type=Path, required=True, help="the zip to write")
    bundle.set_defaults(run=_bundle)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def _check(options: argparse.Namespace) -> None:
    """Print the problems of every task below a root; exit with 1 if there is any."""
    problems: list[Problem] = []
    not_found: list[InputError] = []
    tasks = _tasks_to_check(options)
    for task in tasks:
        data = _open(task, options)
        try:
            folder = data.release.folder
        except InputError as error:
            not_found.append(error)
            continue
        found = check_dataset(data)
        training = data.training_set
        counts = f"{len(training.listed)} pairs and {len(training.scans)} single scans to train on"
        print(f"task {task.name}: {folder}")
        print(f"  {len(data.listed('val'))} validation pairs, {counts}, {len(found)} problems")
        problems += found
    if len(not_found) == len(tasks):
        raise InputError(problem for error in not_found for problem in error.problems)
    raise_if_any(problems)
    print("no problems")


def _tasks_to_check(options: argparse.Namespace) -> list[Task]:
    """Return the tasks asked for, or the one that a phantom's manifest describes."""
    manifest = options.data / MANIFEST
    if manifest.is_file():
        described = json.loads(manifest.read_text(encoding="utf-8"))
        return [phantom_task(**described, root=options.data)]
    names = [options.task] if options.task else TASKS
    return [build(load_preset("task", name)) for name in names]


def _open(task: Task, options: argparse.Namespace) -> Dataset:
    node = load_preset("data", "default") | {
        "root": str(options.data),
        "layout": options.layout,
        "pairs": options.pairs,
        "cache": None,
    }
    data: Dataset = build(node, task=task)
    return data


def _check_submission(options: argparse.Namespace) -> None:
    """Print warnings, then all faults; exit with 1 if there is any."""
    full = RULES[options.rules].full_resolution
    if options.data is None:
        task: Task = build(load_preset("task", options.task))
        task = replace(task, shape=task.layouts["current"].shape or task.shape) if full else task
        names = official_names(task, options.split, full_resolution=full)
    else:
        data = _open(_tasks_to_check(options)[0], options)
        task, pairs = data.release.task, data.listed(options.split)
        check_grid(task, RULES[options.rules])
        names = [pair.name_in_layout if full else pair.name for pair in pairs]
    checked = check_submission(options.zip, task, names, full_resolution=full)
    warnings = checked.warnings
    if options.data is not None and not checked.faults:
        warnings += convention_warnings(
            options.zip, pairs, data.reader("half"), full_resolution=full
        )
    for warning in warnings:
        print(f"warning: {warning}")
    raise_if_any(checked.faults)
    print(f"{options.zip}: {len(names)} fields of task {task.name}, no format fault")


def _bundle(options: argparse.Namespace) -> None:
    for folder, count in join_bundles(options.sources, options.out).items():
        print(f"{folder}: {count} fields")
    print(f"{options.out}: check it with: l2reg check-submission {options.out} --task ...")


def _phantom(options: argparse.Namespace) -> None:
    make_phantom(
        options.flavour,
        options.out,
        n_pairs=options.pairs,
        size=options.size,
        seed=options.seed,
    )
    print(f"{options.out}: check it with: l2reg check {options.out}")


def _register(options: argparse.Namespace) -> None:
    configure_malloc()
    begin = time.perf_counter()
    written = register(
        options.fixed, options.moving, options.out, preset=options.like, device=options.device
    )
    for path in (written.warped, written.transform, written.picture):
        print(path)
    print(f"{time.perf_counter() - begin:.1f} s")


def _open_one(options: argparse.Namespace) -> Dataset:
    tasks = _tasks_to_check(options)
    if len(tasks) > 1:
        problem = Problem(
            where="--task",
            what="is missing",
            expected=", ".join(TASKS),
            found="no task",
            remedy="add --task abdomen",
        )
        raise InputError(problem)
    return _open(tasks[0], options)


def _keypoints(options: argparse.Namespace) -> None:
    configure_malloc()
    data = _open_one(options)
    predictor = training_free_predictor(data, select_device(options.device))
    for path, count in write_keypoints(data, predictor).items():
        print(f"{path}: {count} keypoints")


def _propagate(options: argparse.Namespace) -> None:
    configure_malloc()
    data, device = _open_one(options), select_device(options.device)
    if options.ckpt is None:
        predictor = training_free_predictor(data, device)
    else:
        rebuilt = load_trained_model(options.ckpt, {}, data.task.name)
        data = replace(data, prealign=rebuilt.config["data"]["prealign"])
        reader = data.reader(grid_of(rebuilt.model))
        predictor = Predictor(rebuilt.model.to(device), reader, device, "float32")
    written = propagate_labels(data, predictor, options.out, n_atlases=options.atlases)
    print(f"{len(written)} label maps below {options.out}")
    print(f"train with them: python train.py ... data.pseudo_labels.root={options.out}")


def _rank(options: argparse.Namespace) -> None:
    tasks = read_tasks(options.results)
    ranking = rank(tasks, options.method, resamples=options.resamples)
    print(ranking_text(ranking, tasks))
