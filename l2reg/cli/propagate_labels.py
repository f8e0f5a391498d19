"""``l2reg propagate-labels``: label training scans by registering labelled scans to them."""

import argparse
from dataclasses import replace
from pathlib import Path

from l2reg.cli.datasets import add_one_task_arguments, open_one_task, positive_int
from l2reg.wording import quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_one_task_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write to: data.pseudo_labels.root=OUT"
    )
    parser.add_argument(
        "--ckpt", type=Path, help="run folder or checkpoint of a network; default: model=convex"
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="your own package or module whose classes the checkpoint may name; may be repeated",
    )
    parser.add_argument(
        "--atlases",
        type=positive_int,
        default=3,
        help="number of labelled scans that vote on each scan",
    )


def run(options: argparse.Namespace) -> None:
    """Write the label maps, and print their number and how to train with them."""
    from l2reg.checkpoints.trained_model import load_trained_model
    from l2reg.inference.label_propagation import propagate_labels
    from l2reg.inference.method import Method
    from l2reg.inference.predictor import Predictor
    from l2reg.inference.prepare import training_free_method
    from l2reg.runtime import configure_malloc, select_device

    configure_malloc()
    data, device = open_one_task(options.data, options.task), select_device(options.device)
    if options.ckpt is None:
        method = training_free_method(data.task.name, device)
    else:
        trained = load_trained_model(options.ckpt, {}, data.task.name, options.trust)
        data = replace(data, prealign=trained.config["data"]["prealign"])
        method = Method(trained.model.to(device), device=device)
    predictor = Predictor(method, data.reader)
    paths = propagate_labels(data, predictor, options.out, n_atlases=options.atlases)
    print(f"{quantity(len(paths), 'label map')} below {options.out}")
    print(f"train with them: l2reg train ... data.pseudo_labels.root={options.out}")
