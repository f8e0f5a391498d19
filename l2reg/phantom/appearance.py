"""Random appearance: a scan of a class map, of a contrast and a quality that no scanner has alone.

Contrast drawn at random for every class follows SynthMorph (Hoffmann et al. 2021).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.phantom.smooth_noise import smooth_noise
from l2reg.shapes import Image, LabelMap

_MAX_CLASSES = 64

AxisMatrix = Float[Tensor, "b size size"]


class Appearance:
    """Draws random scans of class maps; every call draws others.

    Args:
        generator: Random numbers; the scans are on its device.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __call__(self, classes: LabelMap, texture: Image) -> Image:
        """Return a scan of each map, with intensities in [0, 1].

        Every class has an intensity, a gradient and a share of the texture of its own. Bias field,
        blur, thick slices, ringing at edges (Gibbs), a window, gamma, inversion, noise and an empty
        outside follow, each in a part of the scans.

        Args:
            classes: Class maps on cubes, from 0, which is outside the body, to 63.
            texture: A pattern that both scans of a pair show, of standard deviation 1.
        """
        n, _, size, _, _ = classes.shape
        shared = self._of_classes(classes, 0.12 * self._normal(n, _MAX_CLASSES))
        gradient = self._of_classes(classes, 0.15 * self._uniform(n, _MAX_CLASSES))
        image = self._of_classes(classes, self._uniform(n, _MAX_CLASSES))
        image += shared * texture * self._some(n, 0.7)
        image += gradient * self._noise(n, size, size / 3) * self._some(n, 0.7)
        empty = (classes == 0) & (self._some(n, 0.6) > 0)
        air = self._some(n, 0.2) * self._uniform(n, 1).view(n, 1, 1, 1, 1)
        image = torch.where(empty, air, image)
        image *= torch.exp(0.4 * self._uniform(n).view(-1, 1, 1, 1, 1) * self._noise(n, size, size))
        image = self._window(_to_unit_range(self._acquire(image)))
        inverted = self._some(n, 0.25)
        image = inverted + (1 - 2 * inverted) * image
        image = image.clamp(min=1e-4) ** torch.exp(0.4 * self._normal(n).view(n, 1, 1, 1, 1))
        deviation = 0.08 * (self._uniform(n) ** 2).view(n, 1, 1, 1, 1)
        image = image + deviation * torch.randn(
            image.shape, generator=self.generator, device=image.device
        )
        masked = (classes == 0) & (self._some(n, 0.35) > 0)
        return _to_unit_range(torch.where(masked, image.amin(dim=(2, 3, 4), keepdim=True), image))

    def remap(self, image: Image) -> Image:
        """Return scans with gamma and noise, half of them with inverted contrast.

        Args:
            image: Scans, of intensities in [0, 1].
        """
        n = len(image)
        inverted = self._some(n, 0.5)
        image = inverted + (1 - 2 * inverted) * image
        image = image.clamp(min=1e-4) ** torch.exp(0.4 * self._normal(n).view(n, 1, 1, 1, 1))
        deviation = 0.05 * (self._uniform(n) ** 2).view(n, 1, 1, 1, 1)
        noise = torch.randn(image.shape, generator=self.generator, device=image.device)
        return _to_unit_range(image + deviation * noise)

    def _acquire(self, image: Image) -> Image:
        """Return the image as a scanner of limited resolution sees it, axis by axis."""
        n, _, size, _, _ = image.shape
        thick_axis = torch.floor(3 * self._uniform(n))
        ringing_axis = torch.floor(3 * self._uniform(n))
        thickness = 1 + 4 * self._uniform(n) * self._some(n, 0.35).flatten()
        kept = 0.4 + 0.4 * self._uniform(n) + self._some(n, 0.75).flatten()
        matrices = []
        for axis in range(3):
            matrix = self._blur(n, size)
            of_axis = torch.where(thick_axis == axis, thickness, 1.0)
            matrix = _thick_slices(size, of_axis) @ matrix
            of_axis = torch.where(ringing_axis == axis, kept, 1.0).clamp(max=1)
            matrices.append(_band_limit(size, of_axis) @ matrix)
        along_i, along_j, along_k = matrices
        volume = (along_i @ image.view(n, size, -1)).view(n, size, size, size)
        volume = along_j[:, None] @ volume @ along_k[:, None].mT
        return volume[:, None]

    def _blur(self, n: int, size: int) -> AxisMatrix:
        """Return Gaussian filters of a deviation from 0.2 to 1.2 voxels."""
        deviation = (0.2 + self._uniform(n) ** 2).view(n, 1, 1)
        at = torch.arange(size, device=self.generator.device)
        weights = torch.exp(-0.5 * ((at[:, None] - at) / deviation) ** 2)
        return weights / weights.sum(dim=2, keepdim=True)

    def _window(self, image: Image) -> Image:
        """Return the image, for some scans cut off at a lower and an upper value."""
        n = len(image)
        narrow = self._some(n, 0.4)
        low, high = (0.4 * narrow * self._uniform(n).view(n, 1, 1, 1, 1) for _ in range(2))
        return ((image - low) / (1 - low - high)).clamp(0, 1)

    def _of_classes(self, classes: LabelMap, values: Float[Tensor, "b classes"]) -> Image:
        return values.gather(1, classes.flatten(1)).view(classes.shape)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def _some(self, n: int, share: float) -> Float[Tensor, "b 1 1 1 1"]:
        """Return 1 for about a share of the scans, else 0."""
        return (self._uniform(n) < share).float().view(n, 1, 1, 1, 1)

    def _noise(self, n: int, size: int, grain: float) -> Image:
        return smooth_noise((n, 1), size, grain=grain, generator=self.generator)


def _to_unit_range(image: Image) -> Image:
    low, high = (extreme(image, (2, 3, 4), True) for extreme in (torch.amin, torch.amax))
    return (image - low) / (high - low).clamp(min=1e-6)


def _thick_slices(size: int, thickness: Float[Tensor, " b"]) -> AxisMatrix:
    """Return means over slices, interpolated linearly between their centres.

    Args:
        size: Number of voxels.
        thickness: Of the slices, in voxels; 1 or more, and 1 for the identity.
    """
    at = torch.arange(size, device=thickness.device)
    width = thickness.view(-1, 1, 1)
    centres = width[:, 0] * (at + 0.5) - 0.5  # b slices
    inside = (width / 2 + 0.5 - (centres[:, :, None] - at).abs()).clamp(0, 1)  # b slices voxels
    inside = inside / inside.sum(dim=2, keepdim=True).clamp(min=1e-6)
    between = (1 - (at[:, None] - centres[:, None]).abs() / width).clamp(min=0)  # b voxels slices
    between = between * (inside.sum(dim=2)[:, None] > 0)
    return (between / between.sum(dim=2, keepdim=True).clamp(min=1e-6)) @ inside


def _band_limit(size: int, kept: Float[Tensor, " b"]) -> AxisMatrix:
    """Return filters that keep the lowest share of all frequencies, which lets edges ring.

    Args:
        size: Number of voxels.
        kept: Share of the frequencies in (0, 1]; 1 for the identity.
    """
    highest = torch.round(kept * (size - 1) / 2).view(-1, 1, 1)
    at = torch.arange(size, device=kept.device)
    angle = math.pi * (at[:, None] - at) / size
    ratio = torch.sin((2 * highest + 1) * angle) / (size * torch.sin(angle))
    dirichlet = torch.where(at[:, None] == at, (2 * highest + 1) / size, ratio)
    return torch.where(kept.view(-1, 1, 1) < 1, dirichlet, (at[:, None] == at).float())
