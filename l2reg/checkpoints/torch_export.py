"""Networks as programs of ``torch.export``, which run without l2reg.

A program computes on a CPU, in float32, and takes scans on one grid alone, the working grid of
its task.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.config.task_nodes import scan_channels, task_nodes
from l2reg.models.prediction import grid_of
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field, Image, Shape3, working_shape

PROGRAM = ".pt2"  # suffix that PyTorch gives to programs


class _FieldOfScans(nn.Module):
    """A network as a function of two tensors, which a program takes, and not of a batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, fixed: Image, moving: Image) -> Field:
        disp: Tensor = self.network({"fixed": fixed, "moving": moving}).disp
        return disp


def programs_of(
    checkpoint: Path, config: Mapping[str, Any], trust: Sequence[str]
) -> dict[str, ExportedProgram]:
    """Return the program of a trained network for each task of its run, by file name.

    Args:
        checkpoint: The checkpoint file.
        config: Config of the run in the checkpoint.
        trust: See ``load_trained_model``.

    Raises:
        InputError: See ``load_trained_model`` and ``export_network``.
    """
    programs = {}
    for name in task_nodes(config):
        trained = load_trained_model(checkpoint, {}, name or None, trust)
        task = build(trained.config["task"], "task", trust)
        shape = working_shape(task.shape, grid_of(trained.model))
        programs[f"model_{name}{PROGRAM}" if name else f"model{PROGRAM}"] = export_network(
            trained.model, shape, scan_channels(trained.config["model"])
        )
    return programs


def export_network(network: nn.Module, shape: Shape3, n_channels: int) -> ExportedProgram:
    """Return the program of a network for one pair of scans on a grid.

    The program maps a fixed and a moving image, ``(1, c, i, j, k)`` with intensities in [0, 1], to
    the displacement field, ``(1, 3, i, j, k)`` in voxels.

    Args:
        network: The network, on the CPU; it is set to evaluation, and its weights are fixed.
        shape: Shape of the grid.
        n_channels: Number of channels of each scan, c.

    Raises:
        InputError: If the network cannot be exported.
    """
    function = _FieldOfScans(network).eval().requires_grad_(requires_grad=False)
    noise = torch.Generator().manual_seed(0)
    scans = tuple(torch.rand(1, n_channels, *shape, generator=noise) for _ in range(2))
    try:
        with torch.no_grad():
            function(*scans)  # its cached constants must be tensors, not those of the tracer
            return torch.export.export(function, scans)
    except Exception as error:  # whatever a network of the user's raises, or the tracer in it
        name = type(network).__name__
        raise InputError(
            Problem(
                where=f"network {name}",
                what="cannot be exported by torch.export",
                expected="a network that reads fixed and moving images alone, and whose control "
                "flow does not depend on their intensities",
                found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                remedy="leave --torch-export out: model.safetensors has all the weights",
            )
        ) from error
