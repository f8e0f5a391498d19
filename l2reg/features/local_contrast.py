"""Local contrast: intensities normalised by their local mean and standard deviation."""

from dataclasses import dataclass

from l2reg.geometry.filters import box_mean
from l2reg.shapes import Image, Maps


@dataclass(frozen=True)
class LocalContrast:
    """Intensities less their local mean, by their local standard deviation: blind to local gain.

    Their mean squared difference is twice one minus the local correlation, so that least squares
    optimise the local NCC.

    Attributes:
        radius: Of the cube around a voxel, in voxels.
        flat: Variance well below which a cube counts as flat.
    """

    radius: int
    flat: float

    def __post_init__(self) -> None:
        if self.radius < 1:
            raise ValueError(f"radius must be 1 or more, got {self.radius}")

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return one channel of each."""
        return self._of(fixed), self._of(moving)

    def _of(self, image: Image) -> Image:
        window = 2 * self.radius + 1
        mean = box_mean(image, window)
        variance = (box_mean(image * image, window) - mean * mean).clamp(min=0)
        return (image - mean) / (variance + self.flat).sqrt()
