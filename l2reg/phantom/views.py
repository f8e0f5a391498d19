"""Synthetic views: pairs of scans of one random anatomy, with a known field, made from a seed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from l2reg.batch import Batch
from l2reg.geometry.affine import affine_field
from l2reg.geometry.warp import sample_at_points, voxel_coords, warp
from l2reg.phantom.appearance import Appearance
from l2reg.phantom.random_shapes import random_shapes
from l2reg.phantom.smooth_noise import smooth_noise
from l2reg.phantom.tissues import tissue_map
from l2reg.shapes import Affine, Field, Image, LabelMap, Points

_MARGIN = 2  # voxels from the border of the moving view to the points


@dataclass(frozen=True, kw_only=True)
class SyntheticViews:
    """Pairs of views of random anatomy, made when they are needed; no file is read.

    Both views show one anatomy in appearances of their own (``phantom.appearance``), displaced by a
    small random field. A part of the anatomies are tissues of phantoms, moved, turned and deformed;
    the others are random shapes.

    Attributes:
        size: Number of voxels along each axis.
        n_points: Number of points per pair, drawn such that small classes have nearly as many as
            large ones.
        phantom_share: Share of the pairs that show phantoms, in [0, 1].
        same_scan_share: Share of the pairs, in [0, 1], whose fixed view is the moving one, deformed
            and remapped (``Appearance.remap``). They are what is learned first.
        n_patients: Number of patients of the phantoms, a third each of abdomen, lung and brain.
        patient_seed: Seed of these patients.
        shift: Standard deviation of the translation between the views, in voxels.
        elastic: Standard deviation of the smooth displacement between the views, in voxels.
        affine: Standard deviation of the entries of the linear map between the views.
    """

    size: int
    n_points: int
    phantom_share: float
    same_scan_share: float
    n_patients: int
    patient_seed: int
    shift: float
    elastic: float
    affine: float

    def __post_init__(self) -> None:
        if self.size < 16 or self.n_points < 2 or self.n_patients < 1:
            raise ValueError(
                "size must be 16 or more, n_points 2 or more and n_patients 1 or more, got "
                f"{self.size}, {self.n_points}, {self.n_patients}"
            )
        if not (0 <= self.phantom_share <= 1 and 0 <= self.same_scan_share <= 1):
            raise ValueError(
                "phantom_share and same_scan_share must be in [0, 1], got "
                f"{self.phantom_share}, {self.same_scan_share}"
            )
        if min(self.shift, self.elastic, self.affine) < 0:
            raise ValueError(
                "shift, elastic and affine must be 0 or more, got "
                f"{self.shift}, {self.elastic}, {self.affine}"
            )

    def batches(self, *, items: range, seed: int, device: torch.device) -> "ViewBatches":
        """Return training batches.

        Args:
            items: Numbers of the pairs of a step that a batch holds.
            seed: Seed of the run.
            device: Device on which the pairs are made.
        """
        return ViewBatches(self, items, seed, device)

    def make(self, is_phantom: np.ndarray, rng: np.random.Generator, device: torch.device) -> Batch:
        """Return random pairs: views, points in both, and the classes of the points.

        Args:
            is_phantom: Whether each pair shows a phantom.
            rng: Random numbers. A GPU makes other pairs of it than a CPU.
            device: Device on which the pairs are made.
        """
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
        n_pairs, size = len(is_phantom), self.size
        classes = torch.empty(n_pairs, 1, size, size, size, dtype=torch.long, device=device)
        chosen = torch.from_numpy(is_phantom)
        if not is_phantom.all():
            n_shapes = int((~is_phantom).sum())
            classes[~chosen.to(device)] = random_shapes(n_shapes, size, rng, generator)
        for n in np.flatnonzero(is_phantom):
            classes[n] = self._phantom(rng, generator)[0]
        disp = self._motion(n_pairs, generator)
        texture = _texture(n_pairs, size, rng, generator)
        seen = warp(classes.float(), disp, interpolation="nearest").long()
        points = _draw_points(seen, disp, self.n_points, generator)
        look = Appearance(generator)
        moving = look(classes, texture)
        same = torch.from_numpy(rng.random(n_pairs) < self.same_scan_share).to(device)
        fixed = torch.where(
            same.view(-1, 1, 1, 1, 1),
            look.remap(warp(moving, disp)),
            look(seen, warp(texture, disp)),
        )
        return {
            "fixed": fixed,
            "moving": moving,
            "fixed_points": points,
            "moving_points": points + sample_at_points(disp, points),
            "point_labels": _values_at(seen, points),
        }

    def _phantom(self, rng: np.random.Generator, generator: torch.Generator) -> LabelMap:
        """Return a part of a patient's class map, turned, scaled and deformed."""
        tissues = tissue_map(self.patient_seed, int(rng.integers(self.n_patients)))
        tissues = tissues.to(generator.device)
        inside = (tissues[0, 0] > 0).nonzero()
        middle = inside[int(rng.integers(len(inside)))].float()
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn = turn if rng.random() < 0.3 else np.eye(3)[rng.permutation(3)]
        turn = turn * rng.choice([-1, 1], (3, 1))
        linear = turn @ np.diag(rng.uniform(0.8, 1.6, 3)) + rng.normal(0, 0.1, (3, 3))
        elastic = 2.5 * smooth_noise((1, 3), self.size, grain=20.0, generator=generator)
        shape = (self.size, self.size, self.size)
        field = affine_field(_about_centre(linear, self.size, generator.device), shape)
        centre = (self.size - 1) / 2
        field = field + elastic + (middle - centre).view(1, 3, 1, 1, 1)
        return warp(tissues, field, interpolation="nearest").long()

    def _motion(self, n_pairs: int, generator: torch.Generator) -> Field:
        """Return the fields from fixed to moving views."""
        device = generator.device
        centre = (self.size - 1) / 2
        noise = torch.randn(n_pairs, 3, 4, generator=generator, device=device)
        linear = torch.eye(3, device=device) + self.affine * noise[:, :, :3]
        offset = centre - linear.sum(dim=2, keepdim=True) * centre + self.shift * noise[:, :, 3:]
        grain = 20.0
        elastic = smooth_noise((n_pairs, 3), self.size, grain=grain, generator=generator)
        shape = (self.size, self.size, self.size)
        return affine_field(torch.cat([linear, offset], dim=2), shape) + self.elastic * elastic


@dataclass(frozen=True)
class ViewBatches:
    """Batches of synthetic views, indexed by step; the same step always gives the same batch."""

    views: SyntheticViews
    items: range
    seed: int
    device: torch.device

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step`` on the device."""
        rng = np.random.default_rng((self.seed, step, self.items.start))
        is_phantom = rng.random(len(self.items)) < self.views.phantom_share
        return self.views.make(is_phantom, rng, self.device)


def _about_centre(linear: np.ndarray, size: int, device: torch.device) -> Affine:
    centre = np.full(3, (size - 1) / 2)
    rows = np.column_stack([linear, centre - linear @ centre])
    return torch.tensor(rows[None], dtype=torch.float32, device=device)


def _texture(
    n_pairs: int, size: int, rng: np.random.Generator, generator: torch.Generator
) -> Image:
    """Return patterns of two random sizes, of standard deviation 1."""
    grains = rng.choice((2.0, 3.0, 4.0, 6.0, 9.0), 2, replace=False)
    share = rng.uniform(0.3, 0.7)
    first, second = (
        smooth_noise((n_pairs, 1), size, grain=float(grain), generator=generator)
        for grain in grains
    )
    pattern: Image = first * share**0.5 + second * (1 - share) ** 0.5
    return pattern


def _draw_points(
    classes: LabelMap, disp: Field, n_points: int, generator: torch.Generator
) -> Points:
    """Return voxels of the fixed view whose moving positions lie inside the moving view.

    A voxel is drawn with a probability that falls with the size of its class. Where fewer than
    ``n_points`` voxels can be drawn, some are drawn twice.
    """
    n_pairs, size = len(classes), classes.shape[2]
    flat = classes.flatten(1)
    counts = torch.zeros(n_pairs, int(flat.max()) + 1, device=flat.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
    at = voxel_coords(disp) + disp
    inside = ((at >= _MARGIN) & (at <= size - 1 - _MARGIN)).all(dim=1).flatten(1)
    rarity = counts.gather(1, flat).clamp(min=100) ** -0.75
    drawn = torch.multinomial(rarity * inside, n_points, replacement=True, generator=generator)
    return torch.stack([drawn // size**2, drawn // size % size, drawn % size], dim=2).float()


def _values_at(classes: LabelMap, points: Points) -> Tensor:
    size = classes.shape[2]
    i, j, k = points.long().unbind(dim=2)
    values: Tensor = classes.flatten(1).gather(1, (i * size + j) * size + k)
    return values
