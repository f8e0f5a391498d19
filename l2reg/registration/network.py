"""Trained network for two scans of any grid, resampled to the grid that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch, resize_batch, to_device
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.config.task_nodes import scan_channels
from l2reg.data.intensity import Window
from l2reg.data.pairs import channel_modalities
from l2reg.data.task import Task
from l2reg.geometry.affine import affine_field, compose_affine, identity_affine, invert_affine
from l2reg.geometry.resize import resize_field, voxel_ratio
from l2reg.geometry.warp import inside_volume, warp
from l2reg.inference.method import Method
from l2reg.models.prediction import grid_of
from l2reg.phantom.make import base_task
from l2reg.problems import InputError, Problem
from l2reg.registration.channels import Channel
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.scan_pair import ScanPair
from l2reg.registration.solve import ANY_CONTRAST
from l2reg.registration.start import Start
from l2reg.registration.working_grid import smooth_to_resolution
from l2reg.shapes import Affine, Field, Image, Shape3, working_shape
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.pair_grid import scan_grid
from l2reg.transforms.world import voxel_map

_MIN_COVERED = 0.9  # fraction of the fixed scan


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, and the task that it was trained for.

    Attributes:
        path: The checkpoint file.
        method: The network, without refinement.
        task: The task: the grid of its scans, and their normalisation. One without a layout of
            files is ``task=own``, whose grids run to the right, front and top; the voxel axes of
            other tasks are those of their scans.
        n_channels: Number of channels of each scan that it takes; of one, only the first is given.
    """

    path: Path
    method: Method
    task: Task
    n_channels: int = 1

    def check_channels(self, files: tuple[ScanFiles, ScanFiles]) -> None:
        """Raise ``InputError`` unless scans have the channels of a network of several."""
        numbers = [1 + len(each.channels) for each in files]
        if self.n_channels > 1 and set(numbers) != {self.n_channels}:
            raise InputError(_other_channels(self.path, self.n_channels, numbers))

    def flags(self, scans: ScanPair) -> list[str]:
        """Return warnings about scans that differ from those of the task.

        Args:
            scans: The two scans; the preset in use is the task's by default.
        """
        flags = []
        if self.task.name in CHALLENGE_TASKS and scans.preset != self.task.name:
            flags.append(f"{self.path} was trained for {self.task.name}, not {scans.preset}")
        for path, kind, trained, side in zip(
            scans.paths, scans.modalities, self._trained_on, ("fixed", "moving"), strict=True
        ):
            if (kind == "CT") != (trained == "CT"):
                what = "a CT" if kind == "CT" else "no CT in Hounsfield units"
                flags.append(
                    f"{self.path} was trained on {trained} as {side} scan; {path} is {what}"
                )
        covered = self._coverage(scans)
        if covered < _MIN_COVERED:
            extent = " x ".join(
                f"{n * mm:.0f}" for n, mm in zip(self.task.shape, self.task.spacing_mm, strict=True)
            )
            flags.append(
                f"{self.path} works on {extent} mm, {100 * covered:.0f} % of the fixed scan; "
                "its field is continued beyond"
            )
        return flags

    def predict(self, scans: ScanPair, start: Start, shape: Shape3) -> Field:
        """Return the field that fixed positions pass through before the start, in voxels.

        Both scans are resampled to the task's grid, which lies in the middle of the fixed scan, and
        from there to the network's as in ``predict``.

        Args:
            scans: The two scans.
            start: What the registration starts from.
            shape: Shape of the grid of the result, with the corners of the fixed scan.
        """
        to_fixed = self._map_to(scans)
        batch = self._batch(scans, start, to_fixed)
        grid = working_shape(self.task.shape, grid_of(self.method.model))
        batch = to_device(resize_batch(batch, grid, masks="nearest"), self.method.device)
        disp = resize_field(self.method.predict(batch).disp.cpu(), self.task.shape)
        ratio = to_fixed.new_tensor(voxel_ratio(shape, scans.shape))  # fixed voxels per voxel
        back = compose_affine(invert_affine(to_fixed), _scale(ratio))
        sampled = warp(disp, affine_field(back, shape))
        in_voxels = to_fixed[0, :, :3] / ratio[:, None]
        return torch.einsum("cd,bdijk->bcijk", in_voxels, sampled)

    def _batch(self, scans: ScanPair, start: Start, to_fixed: Affine) -> Batch:
        """Return the pair on the task's grid, the moving scan after the start."""
        at_fixed = affine_field(to_fixed, self.task.shape)
        to_moving = compose_affine(start.matrix, to_fixed)
        if start.disp is None:
            at_moving = affine_field(to_moving, self.task.shape)
        else:
            at_moving = at_fixed + warp(start.disp, at_fixed)
        further = list(zip(*scans.channels[: self.n_channels - 1], strict=True)) or [(), ()]
        images = [
            self._image(kind, volume.array, channels)
            for kind, volume, channels in zip(self._modalities, scans.volumes, further, strict=True)
        ]
        fixed, moving = (
            warp(smooth_to_resolution(image, matrix), disp, padding="zeros")
            for image, matrix, disp in zip(
                images, (to_fixed, to_moving), (at_fixed, at_moving), strict=True
            )
        )
        ones = torch.ones_like(fixed[:, :1])
        return {
            "fixed": fixed,
            "moving": moving,
            "fixed_mask": ones,
            "moving_mask": ones,
            "spacing_mm": torch.tensor([self.task.spacing_mm], dtype=torch.float32),
            "prealign": identity_affine(1),
        }

    def _image(self, kind: str, array: np.ndarray, further: Sequence[Channel]) -> Image:
        """Return all channels of a scan, on its own grid, with the intensities of the task."""
        windows = self.task.intensity
        images = [windows[kind](array)]
        for name, each in zip(channel_modalities(kind, len(further)), further, strict=True):
            images.append(windows[name](each.array, each.view))
        return torch.from_numpy(np.stack(images))[None]

    @property
    def _modalities(self) -> tuple[str, str]:
        """Modalities of the fixed and the moving scan, as the task calls them."""
        for layout in self.task.layouts.values():
            return layout.fixed.modality, layout.moving.modality
        return "fixed", "moving"

    @property
    def _trained_on(self) -> tuple[str, str]:
        """Modalities of the fixed and the moving scan in words."""
        if self.task.layouts:
            return self._modalities
        windowed = (isinstance(self.task.intensity[side], Window) for side in self._modalities)
        fixed, moving = ("CT" if ct else "scans other than CT" for ct in windowed)
        return fixed, moving

    def _map_to(self, scans: ScanPair) -> Affine:
        """Return the map from voxels of the task's grid to those of the fixed scan."""
        if not self.task.layouts:
            fixed = ImageGrid(scans.shape, scans.fixed.place)
            grid = scan_grid(fixed, self.task.shape, self.task.spacing_mm)
            matrix = voxel_map(grid.place.affine, scans.fixed.affine)
            return torch.from_numpy(matrix)[None, :3].float()
        ratio = torch.tensor(self.task.spacing_mm) / torch.tensor(scans.spacing_mm)
        middle = (torch.tensor(scans.shape) - 1) / 2
        offset = middle - ratio * (torch.tensor(self.task.shape) - 1) / 2
        return torch.cat([torch.diag(ratio), offset[:, None]], dim=1)[None]

    def _coverage(self, scans: ScanPair) -> float:
        """Return the fraction of the fixed scan's field of view that the task's grid covers."""
        disp = affine_field(invert_affine(self._map_to(scans)), scans.shape)
        view = scans.masks[0]
        return float((inside_volume(disp, self.task.shape) * view).sum() / view.sum())


def load_network(
    checkpoint: Path, preset: str | None, device: torch.device, trust: Sequence[str]
) -> TrainedNetwork:
    """Load a network and its task, without the task's data.

    Args:
        checkpoint: Run folder (its best model) or checkpoint file.
        preset: Task that is asked for, which a run of several tasks needs.
        device: Device of the network.
        trust: Packages or modules of the user whose classes the checkpoint may name.

    Raises:
        InputError: See ``load_trained_model``.
    """
    trained = load_trained_model(checkpoint, {}, preset, trust)
    node = trained.config["task"]
    if "flavour" in node:  # a phantom, whose data would be made
        task = base_task(node["flavour"], node["size"])
    else:
        task = build(node, "task", trust)
    method = Method(trained.model.to(device), None, device)
    return TrainedNetwork(trained.path, method, task, scan_channels(trained.config["model"]))


def _other_channels(path: Path, n_channels: int, numbers: Sequence[int]) -> Problem:
    return Problem(
        where=str(path),
        what="takes another number of channels than the scans have",
        expected=f"{n_channels} of each scan, the scan itself first, in the order of its training",
        found=f"{numbers[0]} of the fixed and {numbers[1]} of the moving scan",
        remedy="--fixed-channel FILE --moving-channel FILE for each further channel",
    )


def default_preset(network: TrainedNetwork | None) -> str:
    """Return the preset of scans for which none is asked for: the task of a network, if known."""
    if network is not None and network.task.name in CHALLENGE_TASKS:
        return network.task.name
    return ANY_CONTRAST


def _scale(ratio: Float[Tensor, "3"]) -> Affine:
    return torch.cat([torch.diag(ratio), ratio.new_zeros(3, 1)], dim=1)[None]
