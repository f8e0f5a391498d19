"""Weights of descriptors, from a run or an exported model, as features."""

from pathlib import Path

from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.config.build import build
from l2reg.features.learned import Learned
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.problems import InputError, Problem


def learned_features(weights: str | None) -> Learned:
    """Return the features of trained descriptors.

    Args:
        weights: Run folder of ``experiment=descriptors`` (its best weights; others if these are
            damaged, see ``load_checkpoint``), folder of ``l2reg export``, or a file of either.

    Raises:
        InputError: If there are no weights, or if they are damaged or of another network.
    """
    if weights is None:
        raise InputError(_problem("weights=null", "are missing", "null"))
    loaded = load_checkpoint(Path(weights).expanduser())
    for note in loaded.notes:
        tqdm.write(f"warning: {note}")
    where = str(loaded.path)
    try:
        network = build(loaded.state["config"]["model"], "model")
        if not isinstance(network, DescriptorNetwork):
            found = type(network).__name__
            raise InputError(_problem(where, "are of another network", found))
        network.load_state_dict(storage.weights(loaded.state))
    except RuntimeError as error:  # also of a network with impossible widths
        found = " ".join(str(error).split())[:300]
        raise InputError(_problem(where, "do not fit their network", found)) from error
    return Learned(network.eval().requires_grad_(requires_grad=False))


def _problem(where: str, what: str, found: str) -> Problem:
    return Problem(
        where=f"weights of descriptors, {where}",
        what=what,
        expected="a run of experiment=descriptors, or the folder of its l2reg export",
        found=found,
        remedy="model.features.learned.weights=runs/descriptors",
    )
