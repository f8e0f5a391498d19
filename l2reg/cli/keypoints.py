"""``l2reg keypoints``: find keypoints for intra-patient training pairs that have none."""

import argparse

from l2reg.cli.datasets import add_one_task_arguments, open_one_task
from l2reg.wording import quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_one_task_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the keypoints, and print their number for each file."""
    from l2reg.inference.automatic_keypoints import write_keypoints
    from l2reg.inference.predictor import Predictor
    from l2reg.inference.prepare import training_free_method
    from l2reg.runtime import configure_malloc, select_device

    configure_malloc()
    data = open_one_task(options.data, options.task)
    method = training_free_method(data.task.name, select_device(options.device))
    for path, count in write_keypoints(data, Predictor(method, data.reader)).items():
        print(f"{path}: {quantity(count, 'keypoint')}")
